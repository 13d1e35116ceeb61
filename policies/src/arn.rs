//! Amazon Resource Names: `arn:partition:service:region:account:resource`.

/// The six parts of an ARN; the last one may hold more colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arn<'a> {
    pub partition: &'a str,
    pub service: &'a str,
    pub region: &'a str,
    /// Twelve digits; empty for resources that belong to no account.
    pub account: &'a str,
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    /// `None` unless it begins with `arn:` and has six parts, of which the last is not empty.
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.strip_prefix("arn:")?.splitn(5, ':');
        let mut next = || parts.next();
        let arn = Self { partition: next()?, service: next()?, region: next()?, account: next()?, resource: next()? };
        (!arn.resource.is_empty()).then_some(arn)
    }

    /// What a wildcard never runs over: the parts, in order.
    pub(crate) fn parts(&self) -> [&'a str; 5] {
        [self.partition, self.service, self.region, self.account, self.resource]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_has_six_parts_and_the_last_may_have_colons() {
        let arn = Arn::parse("arn:aws:kafka:eu-west-1:123456789012:topic/a/b/c:d").expect("an ARN");
        assert_eq!((arn.account, arn.resource), ("123456789012", "topic/a/b/c:d"));
        for text in ["", "*", "arn:aws:kafka:r:1", "arn:aws:kafka:r:1:", "ARN:aws:kafka:r:1:x", "xarn:a:b:c:d:e"] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }
}
