//! JSON.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Tree;

/// Decodes a value that is JSON: for [`Config::value`](super::Config::value).
///
/// # Errors
/// What `serde_json` finds wrong.
pub fn json<T: DeserializeOwned>(value: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(value)
}

/// Decodes a tree of keys as one JSON object: for [`Config::tree`](super::Config::tree). `/` in a key separates
/// the levels: under the prefix `app/`, the keys `app/db/host` = `"a"` and `app/db/port` = `5432` are
/// `{"db": {"host": "a", "port": 5432}}`. Each key's value is JSON.
///
/// # Errors
/// Which key is wrong, or what `serde_json` finds wrong with the whole.
pub fn json_tree<T: DeserializeOwned>(tree: &Tree) -> Result<T, JsonTreeError> {
    let mut root = Map::new();
    for (key, value) in tree.iter() {
        let name = || String::from_utf8_lossy(key).into_owned();
        let path = std::str::from_utf8(key)
            .map_err(|_| JsonTreeError::Key { key: name(), problem: "is not UTF-8" })?;
        let value =
            serde_json::from_slice(value).map_err(|error| JsonTreeError::Value { key: name(), error })?;
        let (parents, leaf) = path.rsplit_once('/').map_or(("", path), |(parents, leaf)| (parents, leaf));
        let levels = parents.split('/').filter(|_| !parents.is_empty());
        if path.split('/').any(str::is_empty) {
            return Err(JsonTreeError::Key { key: name(), problem: "has an empty level" });
        }
        let mut object = &mut root;
        for level in levels {
            let below = object.entry(level).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(below) = below else {
                return Err(JsonTreeError::Key {
                    key: name(),
                    problem: "is below a key that has a value of its own",
                });
            };
            object = below;
        }
        // A key of an object's own comes before the keys below it.
        object.insert(leaf.into(), value);
    }
    T::deserialize(Value::Object(root)).map_err(JsonTreeError::Whole)
}

/// A tree does not decode.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonTreeError {
    /// A key has no place in an object.
    #[error("key {key:?} {problem}")]
    Key {
        /// The key, without the prefix.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key's value is no JSON.
    #[error("the value of {key:?} is no JSON: {error}")]
    Value {
        /// The key, without the prefix.
        key: String,
        /// What is wrong with it.
        #[source]
        error: serde_json::Error,
    },
    /// The object is not what was expected.
    #[error("{0}")]
    Whole(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(keys: &[(&str, &str)]) -> Result<Value, JsonTreeError> {
        let mut tree = Tree::new(0);
        keys.iter().for_each(|&(key, value)| tree.insert(key.as_bytes(), value.as_bytes()));
        json_tree(&tree)
    }

    #[test]
    fn levels_become_objects() {
        let tree = decode(&[("db/host", "\"a\""), ("db/port", "5432"), ("on", "true")]).unwrap();
        assert_eq!(tree, serde_json::json!({"db": {"host": "a", "port": 5432}, "on": true}));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |keys| decode(keys).unwrap_err().to_string();
        assert!(problem(&[("a", "1"), ("a/b", "2")]).contains("\"a/b\" is below a key"));
        assert!(problem(&[("a//b", "2")]).contains("empty level"));
        assert!(problem(&[("a/b", "nonsense")]).contains("the value of \"a/b\" is no JSON"));
        let whole = json_tree::<Vec<u8>>(&Tree::new(0)).unwrap_err();
        assert!(matches!(whole, JsonTreeError::Whole(_)), "{whole}");
    }
}
