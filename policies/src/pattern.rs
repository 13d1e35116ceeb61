//! Texts with wildcards and variables, and how they match. No matching allocates; it takes at most pattern times text steps,
//! where a variable counts as [`VARIABLES_MAX`] bound it.

use std::fmt;

use crate::arn::Arn;
use crate::context::Context;

/// Variables of one text at most: each is looked up again wherever a star may end.
pub(crate) const VARIABLES_MAX: usize = 16;

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    /// `*`: any characters, or none.
    Any,
    /// `?`: one character.
    One,
    Variable {
        /// In lower case, and as it is written.
        key: Box<str>,
        shown: Box<str>,
        default: Option<Box<str>>,
    },
}

/// What is special in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Syntax {
    pub wildcards: bool,
    /// `${key}`, `${key, 'default'}`, `${*}`, `${?}`, `${$}`: in documents of version 2012-10-17.
    pub variables: bool,
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    pieces: Box<[Piece]>,
}

impl Pattern {
    pub fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if syntax.variables && rest.starts_with("${") {
                let (variable, after) = variable(rest)?;
                rest = after;
                match variable {
                    // A wildcard that is meant as it stands, or a dollar sign.
                    Variable::Literal(text) => plain.push_str(text),
                    Variable::Key { name, default } => {
                        flush(&mut plain, &mut pieces);
                        let (key, default) = (name.to_lowercase().into(), default.map(Into::into));
                        pieces.push(Piece::Variable { key, shown: name.into(), default });
                    }
                }
                continue;
            }
            rest = &rest[first.len_utf8()..];
            match first {
                '*' | '?' if syntax.wildcards => {
                    flush(&mut plain, &mut pieces);
                    let piece = if first == '*' { Piece::Any } else { Piece::One };
                    // Several stars are one.
                    if !(piece == Piece::Any && pieces.last() == Some(&Piece::Any)) {
                        pieces.push(piece);
                    }
                }
                _ => plain.push(first),
            }
        }
        flush(&mut plain, &mut pieces);
        let variables = pieces.iter().filter(|piece| matches!(piece, Piece::Variable { .. })).count();
        if variables > VARIABLES_MAX {
            return Err(format!("{variables} variables in one text; {VARIABLES_MAX} at most"));
        }
        Ok(Self { pieces: pieces.into() })
    }

    /// Keys of variables that have no default: in lower case, and as they are written.
    pub fn required(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable { key, shown, default: None } => Some((&**key, &**shown)),
            _ => None,
        })
    }

    /// Whether it is one star.
    pub fn is_any(&self) -> bool {
        *self.pieces == [Piece::Any]
    }

    /// Whether the whole text is the same but for upper and lower case; for patterns without wildcards.
    pub fn is_folded(&self, text: &str, context: &Context) -> bool {
        // A statement whose variables have no value does not apply: all have one here.
        let texts = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(&**text),
            Piece::Variable { key, default, .. } => context.single(key).or(default.as_deref()),
            Piece::Any | Piece::One => None,
        });
        fn fold(text: &str) -> impl Iterator<Item = char> {
            text.chars().flat_map(char::to_lowercase)
        }
        texts.flat_map(fold).eq(fold(text))
    }

    /// Whether the whole text matches. A variable without a value matches nothing.
    pub fn matches(&self, text: &str, case: Case, context: &Context) -> bool {
        match &*self.pieces {
            [Piece::Text(plain)] => return case.is_same(plain, text),
            // What it ends with tells most of what does not match.
            [_, .., Piece::Text(end)] if !case.ends_with(text, end) => return false,
            _ => {}
        }
        // Where to go on after a mismatch: behind the last star, one character further.
        let mut star: Option<(usize, usize)> = None;
        let (mut piece, mut at) = (0, 0);
        loop {
            let next = match self.pieces.get(piece) {
                None if at == text.len() => return true,
                None => None,
                Some(Piece::Any) => {
                    if piece + 1 == self.pieces.len() {
                        return true;
                    }
                    star = Some((piece + 1, at));
                    Some(at)
                }
                Some(Piece::One) => text[at..].chars().next().map(|one| at + one.len_utf8()),
                Some(Piece::Text(plain)) => case.after_prefix(text, at, plain),
                Some(Piece::Variable { key, default, .. }) => match context.single(key).or(default.as_deref()) {
                    Some(value) => case.after_prefix(text, at, value),
                    None => return false,
                },
            };
            match (next, star) {
                (Some(next), _) => (piece, at) = (piece + 1, next),
                (None, None) => return false,
                (None, Some((behind, from))) => {
                    let Some(skipped) = text[from..].chars().next() else { return false };
                    let mut from = from + skipped.len_utf8();
                    // Straight to where the text behind the star may begin.
                    if let Some(Piece::Text(plain)) = self.pieces.get(behind) {
                        match case.first_like(&text.as_bytes()[from..], plain) {
                            Some(ahead) => from += ahead,
                            None => return false,
                        }
                    }
                    star = Some((behind, from));
                    (piece, at) = (behind, from);
                }
            }
        }
    }
}

fn flush(plain: &mut String, pieces: &mut Vec<Piece>) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain).into()));
    }
}

enum Variable<'a> {
    Literal(&'static str),
    Key { name: &'a str, default: Option<&'a str> },
}

/// The variable that a text begins with, and what follows it.
fn variable(text: &str) -> Result<(Variable<'_>, &str), String> {
    let inner = &text[2..];
    let shown = || text.chars().take(40).collect::<String>();
    // A default may hold a brace.
    let (key, default, after) = match inner.find([',', '}']) {
        Some(at) if inner.as_bytes()[at] == b'}' => (&inner[..at], None, &inner[at + 1..]),
        Some(at) => {
            let quoted = inner[at + 1..].trim_start().strip_prefix('\'');
            let ended = quoted.and_then(|quoted| quoted.split_once('\''));
            let after = ended.and_then(|(_, after)| after.trim_start().strip_prefix('}'));
            match (ended, after) {
                (Some((default, _)), Some(after)) => (&inner[..at], Some(default), after),
                _ => return Err(format!("`{}`: a default is written `${{key, 'default'}}`", shown())),
            }
        }
        None => return Err(format!("`{}`: the variable has no `}}`", shown())),
    };
    let literal = match (key, default) {
        ("*", None) => Some("*"),
        ("?", None) => Some("?"),
        ("$", None) => Some("$"),
        _ => None,
    };
    if let Some(literal) = literal {
        return Ok((Variable::Literal(literal), after));
    }
    let key = key.trim();
    // What is no condition key never has a value: such a statement does not apply.
    if key.is_empty() {
        return Err(format!("`{}`: a variable names a condition key, such as `${{aws:username}}`", shown()));
    }
    Ok((Variable::Key { name: key, default }, after))
}

/// Whether upper and lower case of ASCII letters are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Exact,
    Ignored,
}

impl Case {
    fn is_same(self, one: &str, other: &str) -> bool {
        match self {
            Self::Exact => one == other,
            Self::Ignored => one.eq_ignore_ascii_case(other),
        }
    }

    fn ends_with(self, text: &str, end: &str) -> bool {
        let Some(at) = text.len().checked_sub(end.len()) else { return false };
        match self {
            Self::Exact => text.ends_with(end),
            Self::Ignored => text.as_bytes()[at..].eq_ignore_ascii_case(end.as_bytes()),
        }
    }

    /// The first place that begins as a text does. That is the first byte of a character there too.
    fn first_like(self, bytes: &[u8], plain: &str) -> Option<usize> {
        let first = plain.as_bytes().first()?;
        match self {
            Self::Exact => bytes.iter().position(|byte| byte == first),
            Self::Ignored => bytes.iter().position(|byte| byte.eq_ignore_ascii_case(first)),
        }
    }

    /// Where a text goes on behind a prefix that it has at a place.
    fn after_prefix(self, text: &str, at: usize, prefix: &str) -> Option<usize> {
        let rest = &text[at..];
        match self {
            Self::Exact => rest.starts_with(prefix).then_some(at + prefix.len()),
            Self::Ignored => {
                let head = rest.get(..prefix.len())?;
                head.eq_ignore_ascii_case(prefix).then_some(at + prefix.len())
            }
        }
    }
}

/// A pattern of an ARN: part by part, so that no wildcard runs from one part into the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ArnPattern {
    /// `*` alone.
    Any,
    Parts(Box<[Pattern; 5]>),
    /// It has not the six parts of an ARN: nothing is like it.
    None(Pattern),
}

impl ArnPattern {
    pub fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        if text == "*" && syntax.wildcards {
            return Ok(Self::Any);
        }
        let whole = Pattern::parse(text, syntax)?;
        let Some(parts) = split(text, syntax.variables) else { return Ok(Self::None(whole)) };
        let patterns = parts.into_iter().map(|part| Pattern::parse(part, syntax)).collect::<Result<Vec<_>, _>>()?;
        Ok(patterns.try_into().map_or(Self::None(whole), |parts| Self::Parts(Box::new(parts))))
    }

    pub fn required(&self) -> impl Iterator<Item = (&str, &str)> {
        let parts: &[Pattern] = match self {
            Self::Any => &[],
            Self::Parts(parts) => &**parts,
            Self::None(whole) => std::slice::from_ref(whole),
        };
        parts.iter().flat_map(Pattern::required)
    }

    /// Wildcards in the *text* are ordinary characters.
    pub fn matches(&self, arn: Option<&Arn<'_>>, context: &Context) -> bool {
        match (self, arn) {
            (Self::Any, _) => true,
            (Self::Parts(parts), Some(arn)) => {
                // What tells resources apart stands last.
                parts.iter().zip(arn.parts()).rev().all(|(part, text)| part.matches(text, Case::Exact, context))
            }
            (Self::Parts(_), None) | (Self::None(_), _) => false,
        }
    }
}

/// The five parts behind `arn:`. A colon inside of a variable ends no part.
pub(crate) fn split(text: &str, variables: bool) -> Option<Vec<&str>> {
    let rest = text.strip_prefix("arn:")?;
    let (mut parts, mut from, mut at) = (Vec::with_capacity(5), 0, 0);
    while at < rest.len() && parts.len() < 4 {
        if variables && rest[at..].starts_with("${") {
            let (_, after) = variable(&rest[at..]).ok()?;
            at = rest.len() - after.len();
            continue;
        }
        if rest.as_bytes()[at] == b':' {
            parts.push(&rest[from..at]);
            from = at + 1;
        }
        at += rest[at..].chars().next().map_or(1, char::len_utf8);
    }
    let last = &rest[from..];
    parts.push(last);
    (parts.len() == 5 && !last.is_empty()).then_some(parts)
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Any => f.write_str("*")?,
                Piece::One => f.write_str("?")?,
                Piece::Variable { shown, default: None, .. } => write!(f, "${{{shown}}}")?,
                Piece::Variable { shown, default: Some(default), .. } => write!(f, "${{{shown}, '{default}'}}")?,
            }
        }
        Ok(())
    }
}
