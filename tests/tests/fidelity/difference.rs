//! A difference between the two sides, told so that it can be read.

use std::fmt;

use crate::compare::Said;

/// How much of what was the same is shown before a difference.
const BEFORE: usize = 40;

/// How much of a line is shown.
const WIDTH: usize = 240;

/// A difference between the two sides, or something that one of them may not say.
#[derive(Debug)]
pub(crate) struct Difference {
    what: String,
    /// What was the same before.
    before: Vec<String>,
    lines: [Vec<String>; 2],
    illegal: [Vec<String>; 2],
}

impl Difference {
    pub(crate) fn new(what: &str, transcript: &[String], said: &Said) -> Box<Self> {
        let before = transcript[transcript.len().saturating_sub(BEFORE)..].to_vec();
        Box::new(Self {
            what: what.to_owned(),
            before,
            lines: said.lines.clone(),
            illegal: said.illegal.clone(),
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the two differ in {}; before, both said:", self.what)?;
        for line in &self.before {
            writeln!(f, "    {}", shortened(line))?;
        }
        writeln!(f, "then (- the model alone, + etcd alone):")?;
        for (mark, line) in diff(&self.lines[0], &self.lines[1]) {
            writeln!(f, "  {mark} {}", shortened(line))?;
        }
        for (name, illegal) in ["the model", "etcd"].iter().zip(&self.illegal) {
            for why in illegal {
                writeln!(f, "  ! {name}: {}", shortened(why))?;
            }
        }
        Ok(())
    }
}

/// The start of a line that is too long.
pub(crate) fn shortened(line: &str) -> String {
    let mut short: String = line.chars().take(WIDTH).collect();
    if short.len() < line.len() {
        short += &format!("... ({} bytes)", line.len());
    }
    short
}

/// The lines of both, in order, each marked by who has it, by their longest common subsequence.
fn diff<'a>(left: &'a [String], right: &'a [String]) -> Vec<(char, &'a str)> {
    let width = right.len() + 1;
    // The length of the longest common subsequence of the tails.
    let mut longest = vec![0_usize; (left.len() + 1) * width];
    for l in (0..left.len()).rev() {
        for r in (0..right.len()).rev() {
            longest[l * width + r] = if left[l] == right[r] {
                longest[(l + 1) * width + r + 1] + 1
            } else {
                longest[(l + 1) * width + r].max(longest[l * width + r + 1])
            };
        }
    }
    let (mut l, mut r) = (0, 0);
    let mut marked = Vec::new();
    while l < left.len() || r < right.len() {
        if l < left.len() && r < right.len() && left[l] == right[r] {
            marked.push((' ', left[l].as_str()));
            (l, r) = (l + 1, r + 1);
        } else if r == right.len()
            || (l < left.len() && longest[(l + 1) * width + r] >= longest[l * width + r + 1])
        {
            marked.push(('-', left[l].as_str()));
            l += 1;
        } else {
            marked.push(('+', right[r].as_str()));
            r += 1;
        }
    }
    marked
}

#[test]
fn a_diff_marks_what_one_side_has_alone() {
    let lines = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let (left, right) = (lines("abcd"), lines("acxd"));
    let marked = diff(&left, &right);
    assert_eq!(marked, [(' ', "a"), ('-', "b"), (' ', "c"), ('+', "x"), (' ', "d")]);
}
