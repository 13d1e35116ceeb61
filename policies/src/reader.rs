//! JSON with the place of every value, so that whoever wrote a document is told where to look.

use crate::document::Invalid;

/// Deeper values are refused; no policy needs a tenth.
const DEPTH_MAX: usize = 32;

/// Where something stands; both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    pub line: u32,
    pub column: u32,
}

impl At {
    pub fn refuse<T>(self, message: impl Into<String>) -> Result<T, Invalid> {
        Err(Invalid { line: self.line, column: self.column, message: message.into() })
    }
}

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub at: At,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In order; no key is there twice.
    Object(Vec<(String, At, Node)>),
}

impl Node {
    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    pub fn text(&self, what: &str) -> Result<&str, Invalid> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => self.at.refuse(format!("{what}: expected a string, not {}", self.kind())),
        }
    }

    pub fn object(&self, what: &str) -> Result<&[(String, At, Node)], Invalid> {
        match &self.value {
            Value::Object(members) => Ok(members),
            _ => self.at.refuse(format!("{what}: expected an object, not {}", self.kind())),
        }
    }

    /// A list, or one value that stands for a list of it.
    pub fn one_or_many(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            _ => std::slice::from_ref(self),
        }
    }
}

/// The one value of a text.
pub(crate) fn read(text: &str) -> Result<Node, Invalid> {
    let mut reader = Reader { text, next: 0, line: 1, line_start: 0 };
    reader.skip_space();
    let node = reader.value(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => reader.at().refuse("expected the end of the document"),
    }
}

struct Reader<'a> {
    text: &'a str,
    next: usize,
    line: u32,
    line_start: usize,
}

impl<'a> Reader<'a> {
    fn at(&self) -> At {
        let column = self.text[self.line_start..self.next].chars().count() + 1;
        At { line: self.line, column: u32::try_from(column).unwrap_or(u32::MAX) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.next).copied()
    }

    fn skip_space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\r' | b'\n')) = self.peek() {
            self.next += 1;
            if byte == b'\n' {
                self.line += 1;
                self.line_start = self.next;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Node, Invalid> {
        let at = self.at();
        if depth > DEPTH_MAX {
            return at.refuse(format!("values are nested more than {DEPTH_MAX} deep"));
        }
        let value = match self.peek() {
            Some(b'{') => self.members(depth)?,
            Some(b'[') => self.elements(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number(at)?,
            _ => self.word(at)?,
        };
        Ok(Node { at, value })
    }

    fn word(&mut self, at: At) -> Result<Value, Invalid> {
        let words = [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
        for (word, value) in words {
            if self.text[self.next..].starts_with(word) {
                self.next += word.len();
                return Ok(value);
            }
        }
        match self.peek() {
            None => at.refuse("the document ends too early: expected a value"),
            Some(_) => at.refuse("expected a JSON value"),
        }
    }

    fn number(&mut self, at: At) -> Result<Value, Invalid> {
        let rest = &self.text[self.next..];
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let token = &rest[..end];
        if serde_json::from_str::<serde_json::Number>(token).is_err() {
            return at.refuse(format!("`{token}` is not a number"));
        }
        self.next += end;
        Ok(Value::Number(token.to_owned()))
    }

    fn string(&mut self) -> Result<String, Invalid> {
        let at = self.at();
        let bytes = self.text.as_bytes();
        let mut end = self.next + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => return at.refuse("the string has no end"),
                Some(_) => end += 1,
            }
        }
        // A backslash may have led past a character's first byte.
        let token = self.text.get(self.next..=end);
        let Some(text) = token.and_then(|token| serde_json::from_str::<String>(token).ok()) else {
            return at.refuse("the string is not valid JSON: a bad escape or a control character");
        };
        self.next = end + 1;
        Ok(text)
    }

    /// True if there is another one, false at the end.
    fn goes_on(&mut self, is_first: bool, end: u8) -> Result<bool, Invalid> {
        self.skip_space();
        let expected =
            if is_first { format!("`{}` or a value", end as char) } else { format!("`,` or `{}`", end as char) };
        match self.peek() {
            Some(byte) if byte == end => {
                self.next += 1;
                Ok(false)
            }
            Some(b',') if !is_first => {
                self.next += 1;
                self.skip_space();
                Ok(true)
            }
            Some(_) if is_first => Ok(true),
            Some(_) => self.at().refuse(format!("expected {expected}")),
            None => self.at().refuse(format!("the document ends too early: expected {expected}")),
        }
    }

    fn elements(&mut self, depth: usize) -> Result<Value, Invalid> {
        self.next += 1;
        let mut nodes = Vec::new();
        while self.goes_on(nodes.is_empty(), b']')? {
            nodes.push(self.value(depth + 1)?);
        }
        Ok(Value::List(nodes))
    }

    fn members(&mut self, depth: usize) -> Result<Value, Invalid> {
        self.next += 1;
        let mut members: Vec<(String, At, Node)> = Vec::new();
        while self.goes_on(members.is_empty(), b'}')? {
            let at = self.at();
            if self.peek() != Some(b'"') {
                return at.refuse("expected a key in double quotes");
            }
            let key = self.string()?;
            if members.iter().any(|(known, ..)| *known == key) {
                return at.refuse(format!("the key `{key}` is there twice"));
            }
            self.skip_space();
            if self.peek() != Some(b':') {
                return self.at().refuse("expected `:`");
            }
            self.next += 1;
            self.skip_space();
            let node = self.value(depth + 1)?;
            members.push((key, at, node));
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = |text: &str| {
            let invalid = read(text).expect_err(text);
            (invalid.line, invalid.column, invalid.message)
        };
        for (text, line, column, word) in [
            ("", 1, 1, "ends too early"),
            ("{\n  \"a\": 1,\n  \"a\": 2}", 3, 3, "twice"),
            ("{\"a\" 1}", 1, 6, "expected `:`"),
            ("[1 2]", 1, 4, "expected `,` or `]`"),
            ("[1,]", 1, 4, "expected a JSON value"),
            ("{'a': 1}", 1, 2, "double quotes"),
            ("\"\\x\"", 1, 1, "bad escape"),
            ("\"é\\", 1, 1, "no end"),
            ("\"a\n\"", 1, 1, "no end"),
            ("01", 1, 1, "not a number"),
            ("\"ä\" x", 1, 5, "end of the document"),
            ("truee", 1, 5, "end of the document"),
        ] {
            let (l, c, message) = wrong(text);
            assert_eq!((l, c), (line, column), "{text}: {message}");
            assert!(message.contains(word), "{text}: {message}");
        }
        assert!(wrong(&"[".repeat(100_000)).2.contains("deep"));
    }

    #[test]
    fn what_is_right_is_read_as_serde_json_reads_it() {
        let text = r#" {"a": [1, -2.5e3, "x\u00e9\n\"", null, true, {}], "": []} "#;
        let Value::Object(members) = read(text).expect("JSON").value else { panic!("an object") };
        let list = members[0].2.one_or_many();
        assert_eq!(list[1].value, Value::Number("-2.5e3".into()));
        assert_eq!(list[2].value, Value::Text("xé\n\"".into()));
        assert_eq!((list[5].at.line, list[5].at.column), (1, 47));
    }
}
