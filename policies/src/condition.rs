//! The `Condition` element: operators, and when they hold.

use core::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::arn::Arn;
use crate::context::Context;
use crate::document::Invalid;
use crate::pattern::{ArnPattern, Case, Pattern, Syntax};
use crate::reader::{At, Node, Value};

/// How values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equals,
    EqualsIgnoreCase,
    Like,
    Number(Order),
    Date(Order),
    Bool,
    Binary,
    Ip,
    Arn,
    Null,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Name, comparison, and whether it is the negation.
const OPERATORS: &[(&str, Comparison, bool)] = &[
    ("StringEquals", Comparison::Equals, false),
    ("StringNotEquals", Comparison::Equals, true),
    ("StringEqualsIgnoreCase", Comparison::EqualsIgnoreCase, false),
    ("StringNotEqualsIgnoreCase", Comparison::EqualsIgnoreCase, true),
    ("StringLike", Comparison::Like, false),
    ("StringNotLike", Comparison::Like, true),
    ("NumericEquals", Comparison::Number(Order::Equal), false),
    ("NumericNotEquals", Comparison::Number(Order::Equal), true),
    ("NumericLessThan", Comparison::Number(Order::Less), false),
    ("NumericLessThanEquals", Comparison::Number(Order::LessOrEqual), false),
    ("NumericGreaterThan", Comparison::Number(Order::Greater), false),
    ("NumericGreaterThanEquals", Comparison::Number(Order::GreaterOrEqual), false),
    ("DateEquals", Comparison::Date(Order::Equal), false),
    ("DateNotEquals", Comparison::Date(Order::Equal), true),
    ("DateLessThan", Comparison::Date(Order::Less), false),
    ("DateLessThanEquals", Comparison::Date(Order::LessOrEqual), false),
    ("DateGreaterThan", Comparison::Date(Order::Greater), false),
    ("DateGreaterThanEquals", Comparison::Date(Order::GreaterOrEqual), false),
    ("Bool", Comparison::Bool, false),
    ("BinaryEquals", Comparison::Binary, false),
    ("IpAddress", Comparison::Ip, false),
    ("NotIpAddress", Comparison::Ip, true),
    // The guide: "ArnEquals and ArnLike behave identically".
    ("ArnEquals", Comparison::Arn, false),
    ("ArnNotEquals", Comparison::Arn, true),
    ("ArnLike", Comparison::Arn, false),
    ("ArnNotLike", Comparison::Arn, true),
    ("Null", Comparison::Null, false),
];

/// Which of a key's values must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantifier {
    /// `ForAllValues:`; holds of none.
    All,
    /// `ForAnyValue:`; does not hold of none.
    Any,
}

/// One operator with one key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Condition {
    /// As it is written.
    pub operator: Box<str>,
    pub shown_key: Box<str>,
    pub quantifier: Option<Quantifier>,
    comparison: Comparison,
    is_negated: bool,
    if_exists: bool,
    /// In lower case: context keys have no case.
    pub key: Box<str>,
    operands: Box<[Operand]>,
    /// As they are written.
    pub shown: Box<[Box<str>]>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Text(Pattern),
    Arn(ArnPattern),
    Number(Number),
    /// Nanoseconds since 1970.
    Date(i128),
    Bool(bool),
    Bytes(Vec<u8>),
    Network(IpAddr, u8),
}

/// All conditions of a statement, in the order in which they are written.
pub(crate) fn conditions(node: &Node, variables: bool) -> Result<Box<[Condition]>, Invalid> {
    let mut all = Vec::new();
    for (operator, at, keys) in node.object("`Condition`")? {
        let (comparison, is_negated, if_exists, quantifier) = self::operator(operator, *at)?;
        for (key, _, values) in keys.object(&format!("`{operator}`"))? {
            let mut operands = Vec::new();
            let mut shown = Vec::new();
            for value in values.one_or_many() {
                let text = scalar(value)?;
                let operand = operand(comparison, &text, variables)
                    .or_else(|message| value.at.refuse(format!("`{operator}` of `{key}`: {message}")))?;
                operands.push(operand);
                shown.push(text.into_boxed_str());
            }
            all.push(Condition {
                operator: operator.as_str().into(),
                shown_key: key.as_str().into(),
                quantifier,
                comparison,
                is_negated,
                if_exists,
                key: key.to_lowercase().into(),
                operands: operands.into(),
                shown: shown.into(),
            });
        }
    }
    Ok(all.into())
}

fn operator(text: &str, at: At) -> Result<(Comparison, bool, bool, Option<Quantifier>), Invalid> {
    let (quantifier, name) = match text.split_once(':') {
        Some(("ForAllValues", name)) => (Some(Quantifier::All), name),
        Some(("ForAnyValue", name)) => (Some(Quantifier::Any), name),
        Some(_) => {
            return at.refuse(format!("`{text}`: expected `ForAllValues:` or `ForAnyValue:` before the operator"));
        }
        None => (None, text),
    };
    let (name, if_exists) = name.strip_suffix("IfExists").map_or((name, false), |name| (name, true));
    let Some((_, comparison, is_negated)) = OPERATORS.iter().find(|(known, ..)| *known == name) else {
        let alike = OPERATORS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        let hint = alike.map_or(String::new(), |(known, ..)| format!("; did you mean `{known}`?"));
        return at.refuse(format!("`{text}` is no condition operator{hint}"));
    };
    if *comparison == Comparison::Null && (if_exists || quantifier.is_some()) {
        return at.refuse(format!("`{text}`: `Null` stands alone, since it asks whether the key is there"));
    }
    Ok((*comparison, *is_negated, if_exists, quantifier))
}

fn scalar(node: &Node) -> Result<String, Invalid> {
    match &node.value {
        Value::Text(text) | Value::Number(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        _ => node.at.refuse(format!("expected a string, a number or a boolean, not {}", node.kind())),
    }
}

fn operand(comparison: Comparison, text: &str, variables: bool) -> Result<Operand, String> {
    let syntax = |wildcards| Syntax { wildcards, variables };
    Ok(match comparison {
        Comparison::Equals | Comparison::EqualsIgnoreCase => Operand::Text(Pattern::parse(text, syntax(false))?),
        Comparison::Like => Operand::Text(Pattern::parse(text, syntax(true))?),
        Comparison::Arn => Operand::Arn(ArnPattern::parse(text, syntax(true))?),
        Comparison::Number(_) => Operand::Number(Number::parse(text).ok_or_else(|| format!("`{text}` is no number"))?),
        Comparison::Date(_) => Operand::Date(instant(text).ok_or_else(|| {
            format!("`{text}` is no date: expected one like `2026-11-27T12:00:00Z`, or seconds since 1970")
        })?),
        Comparison::Bool | Comparison::Null => {
            Operand::Bool(boolean(text).ok_or_else(|| format!("`{text}` is neither `true` nor `false`"))?)
        }
        Comparison::Binary => {
            Operand::Bytes(STANDARD.decode(text).map_err(|error| format!("`{text}` is not base64: {error}"))?)
        }
        Comparison::Ip => {
            let (address, prefix) = network(text)
                .ok_or_else(|| format!("`{text}` is no address: expected one like `10.0.0.0/8` or `2001:db8::/32`"))?;
            Operand::Network(address, prefix)
        }
    })
}

impl Condition {
    /// Keys of variables that have no default.
    pub fn required(&self) -> impl Iterator<Item = (&str, &str)> {
        self.operands.iter().flat_map(|operand| {
            let text = if let Operand::Text(pattern) = operand { Some(pattern.required()) } else { None };
            let arn = if let Operand::Arn(pattern) = operand { Some(pattern.required()) } else { None };
            text.into_iter().flatten().chain(arn.into_iter().flatten())
        })
    }

    /// Whether it holds. A key without values counts as absent.
    pub fn holds(&self, context: &Context) -> bool {
        let values = context.get(&self.key);
        if self.comparison == Comparison::Null {
            return self.operands.contains(&Operand::Bool(values.is_empty()));
        }
        if values.is_empty() {
            return match self.quantifier {
                _ if self.if_exists => true,
                Some(Quantifier::All) => true,
                Some(Quantifier::Any) => false,
                None => self.is_negated,
            };
        }
        let matches = |value: &String| self.operands.iter().any(|operand| self.compare(operand, value, context));
        match self.quantifier {
            None => values.iter().any(matches) != self.is_negated,
            Some(Quantifier::Any) => values.iter().any(|value| matches(value) != self.is_negated),
            Some(Quantifier::All) => values.iter().all(|value| matches(value) != self.is_negated),
        }
    }

    fn compare(&self, operand: &Operand, value: &str, context: &Context) -> bool {
        match operand {
            Operand::Text(pattern) if self.comparison == Comparison::EqualsIgnoreCase => {
                pattern.is_folded(value, context)
            }
            Operand::Text(pattern) => pattern.matches(value, Case::Exact, context),
            Operand::Arn(pattern) => pattern.matches(Arn::parse(value).as_ref(), context),
            Operand::Number(number) => {
                let order = if let Comparison::Number(order) = self.comparison { order } else { Order::Equal };
                Number::parse(value).and_then(|value| value.compare(*number)).is_some_and(|found| order.is(found))
            }
            Operand::Date(date) => {
                let order = if let Comparison::Date(order) = self.comparison { order } else { Order::Equal };
                instant(value).is_some_and(|value| order.is(value.cmp(date)))
            }
            Operand::Bool(expected) => boolean(value) == Some(*expected),
            Operand::Bytes(bytes) => STANDARD.decode(value).is_ok_and(|value| value == *bytes),
            Operand::Network(address, prefix) => {
                value.parse().is_ok_and(|value: IpAddr| is_within(value, *address, *prefix))
            }
        }
    }

    /// Whether one of the values looks like a pattern where it is none.
    pub fn takes_stars_as_they_are(&self) -> bool {
        matches!(self.comparison, Comparison::Equals | Comparison::EqualsIgnoreCase)
            && self.shown.iter().any(|text| text.contains(['*', '?']) && !text.contains("${"))
    }

    /// A negation that no quantifier and no `IfExists` says more about: it holds of a key that is absent.
    pub fn is_negated_alone(&self) -> bool {
        self.is_negated && self.quantifier.is_none() && !self.if_exists
    }

    /// It asks that a key is there.
    pub fn demands_key(&self) -> bool {
        self.comparison == Comparison::Null && *self.operands == [Operand::Bool(false)]
    }

    /// What cannot match anything: no ARN where one is compared.
    pub fn is_no_arn(&self) -> bool {
        self.operands.iter().any(|operand| matches!(operand, Operand::Arn(ArnPattern::None(_))))
    }
}

impl Order {
    fn is(self, found: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

/// Whole numbers are compared exactly.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Whole(i128),
    Other(f64),
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(whole) = text.parse() {
            return Some(Self::Whole(whole));
        }
        let is_plain = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let number = text.parse::<f64>().ok().filter(|number| is_plain && number.is_finite());
        number.map(Self::Other)
    }

    fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        let float = |number: Self| match number {
            Self::Whole(whole) => whole as f64,
            Self::Other(float) => float,
        };
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(&other)),
            (one, other) => float(one).partial_cmp(&float(other)),
        }
    }
}

/// Nanoseconds since 1970 of an ISO 8601 date (without a time: midnight UTC) or of seconds since 1970.
fn instant(text: &str) -> Option<i128> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(i128::from(seconds) * 1_000_000_000);
    }
    // `[Europe/Berlin]` behind it would be another instant, or none.
    if text.contains('[') {
        return None;
    }
    let zoned = text.parse::<jiff::Timestamp>().ok();
    let plain = || {
        let is_month = text.len() == 7 && text.as_bytes()[4] == b'-';
        let local = if is_month { format!("{text}-01").parse() } else { text.parse::<jiff::civil::DateTime>() }.ok()?;
        Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    };
    zoned.or_else(plain).map(jiff::Timestamp::as_nanosecond)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// An address and how many of its leading bits count; a bare address has all of them.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => most,
        Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().ok().filter(|bits| *bits <= most)?
        }
        Some(_) => return None,
    };
    Some((address, prefix))
}

/// Addresses of another family are never within.
fn is_within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    let is_same = |one: u128, other: u128, bits: u32| {
        let rest = bits - u32::from(prefix);
        one.checked_shr(rest).unwrap_or(0) == other.checked_shr(rest).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => is_same(one.to_bits().into(), other.to_bits().into(), 32),
        (IpAddr::V6(one), IpAddr::V6(other)) => is_same(one.to_bits(), other.to_bits(), 128),
        _ => false,
    }
}
