//! What is named in an expression of Prometheus' language: enough of its grammar for the expressions in `docs`.

use std::collections::BTreeSet;

/// Words before a list of labels in parentheses.
const BEFORE_LABELS: [&str; 4] = ["by", "without", "on", "ignoring"];

/// Words between two operands.
const OPERATORS: [&str; 3] = ["and", "or", "unless"];

/// The functions and aggregations in use. Another one in an expression has to be added here, so that a wrong one is found.
const FUNCTIONS: [&str; 8] =
    ["deriv", "histogram_quantile", "increase", "label_values", "max", "min", "rate", "sum"];

/// What is named in an expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    /// Each series, with the labels that it is selected by.
    pub(crate) series: Vec<(String, Vec<String>)>,
    /// The labels that the result is grouped by.
    pub(crate) groups: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text,
    Sign(char),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(&next) = rest.peek() {
        if next.is_whitespace() {
            rest.next();
        } else if next == '"' {
            rest.next();
            rest.by_ref().find(|&c| c == '"').ok_or("a text does not end")?;
            tokens.push(Token::Text);
        } else if next.is_ascii_alphanumeric() || "_:.$".contains(next) {
            let mut word = String::new();
            while let Some(c) = rest.next_if(|c| c.is_ascii_alphanumeric() || "_:.$".contains(*c)) {
                word.push(c);
            }
            tokens.push(Token::Word(word));
        } else {
            rest.next();
            tokens.push(Token::Sign(next));
        }
    }
    Ok(tokens)
}

/// What an expression names.
///
/// # Errors
/// It is none, as far as this can tell.
pub(crate) fn named(text: &str) -> Result<Named, String> {
    let tokens = tokens(text)?;
    let mut named = Named::default();
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1);
        at += 1;
        match token {
            Token::Sign(sign @ ('(' | '[')) => open.push(if *sign == '(' { ')' } else { ']' }),
            Token::Sign(sign @ (')' | ']')) => {
                if open.pop() != Some(*sign) {
                    return Err(format!("{sign} closes nothing"));
                }
            }
            // A duration is all that is in brackets.
            Token::Word(_) if open.last() == Some(&']') => {}
            Token::Word(word) if word.starts_with(|c: char| c.is_ascii_digit() || c == '$') => {}
            Token::Word(word) if OPERATORS.contains(&&word[..]) => {}
            Token::Word(word) if BEFORE_LABELS.contains(&&word[..]) => {
                let (labels, after) = list(&tokens, at, '(', ')')?;
                named.groups.extend(labels);
                at = after;
            }
            // `sum by (label) (...)`, or `sum(...)`.
            Token::Word(word) if FUNCTIONS.contains(&&word[..]) => {}
            Token::Word(word) if next == Some(&Token::Sign('(')) => {
                return Err(format!("{word} is no function that is known here"));
            }
            Token::Word(word) => {
                let mut labels = Vec::new();
                if next == Some(&Token::Sign('{')) {
                    (labels, at) = list(&tokens, at, '{', '}')?;
                }
                named.series.push((word.clone(), labels));
            }
            Token::Text | Token::Sign('+' | '-' | '*' | '/' | '<' | '>' | '=' | '!' | ',') => {}
            Token::Sign(sign) => return Err(format!("{sign} is not expected")),
        }
    }
    if open.is_empty() && !named.series.is_empty() { Ok(named) } else { Err("it does not end".into()) }
}

/// The first word of each part of a list, and where the list ends.
fn list(tokens: &[Token], from: usize, open: char, close: char) -> Result<(Vec<String>, usize), String> {
    if tokens.get(from) != Some(&Token::Sign(open)) {
        return Err(format!("{open} is missing"));
    }
    let length = tokens[from..].iter().position(|token| *token == Token::Sign(close));
    let end = from + length.ok_or_else(|| format!("{close} is missing"))?;
    let parts = tokens[from + 1..end].split(|token| *token == Token::Sign(','));
    let word = |part: &[Token]| match part.first() {
        Some(Token::Word(word)) => Ok(word.clone()),
        other => Err(format!("{other:?} is no label")),
    };
    Ok((parts.map(word).collect::<Result<_, _>>()?, end + 1))
}

#[test]
fn series_and_labels_are_found() {
    let text = r#"sum by (a, le) (rate(x_bucket{b=~"$c|d{", e!="f"}[$__rate_interval])) / y > 0.05 and z{}"#;
    let named = named(text.trim_end_matches("{}")).expect("it is an expression");
    let series = |name: &str, labels: &[&str]| {
        (name.to_owned(), labels.iter().map(|&label| label.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(named.series, [series("x_bucket", &["b", "e"]), series("y", &[]), series("z", &[])]);
    assert_eq!(named.groups, ["a", "le"].map(str::to_owned).into());
}

#[test]
fn what_is_no_expression_is_refused() {
    for text in ["sum(x", "x)", "rats(x[5m])", "x{a=\"", "sum by a (x)", "1 + 2", "x[5m)", "x; y"] {
        assert!(named(text).is_err(), "{text}");
    }
}
