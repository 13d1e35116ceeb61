//! Who calls, and whom a resource policy names.

use crate::arn::Arn;

/// A caller as policies know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    arn: Box<str>,
    account: Box<str>,
    /// Of a role's session.
    role_arn: Option<Box<str>>,
    kind: PrincipalKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PrincipalKind {
    Root,
    User,
    Role,
    Session,
    FederatedUser,
}

impl Principal {
    /// The role of a session is taken to have no path: the session's ARN does not tell it.
    ///
    /// From an ARN of IAM (`root`, `user/…`, `role/…`) or STS (`assumed-role/ROLE/SESSION`, `federated-user/NAME`); the
    /// error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "`{text}` is not a principal: `arn:aws:iam::ACCOUNT:user/NAME`, `…:role/NAME`, `…:root` or \
                 `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`"
            )
        };
        let arn =
            Arn::parse(text).filter(|arn| arn.region.is_empty() && is_account(arn.account)).ok_or_else(expected)?;
        let (kind, name) = arn.resource.split_once('/').unwrap_or((arn.resource, ""));
        let kind = match (arn.service, kind) {
            ("iam", "root") if arn.resource == "root" => PrincipalKind::Root,
            ("iam", "user") if !name.is_empty() => PrincipalKind::User,
            ("iam", "role") if !name.is_empty() => PrincipalKind::Role,
            ("sts", "assumed-role") if is_session(name) => PrincipalKind::Session,
            ("sts", "federated-user") if !name.is_empty() => PrincipalKind::FederatedUser,
            _ => return Err(expected()),
        };
        let role = |name: &str| format!("arn:{}:iam::{}:role/{name}", arn.partition, arn.account).into();
        let role_arn = match kind {
            PrincipalKind::Session => name.split_once('/').map(|(role_name, _)| role(role_name)),
            PrincipalKind::Role => Some(text.into()),
            _ => None,
        };
        Ok(Self { arn: text.into(), account: arn.account.into(), role_arn, kind })
    }

    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// Twelve digits.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// `aws:PrincipalType`.
    pub fn type_name(&self) -> &'static str {
        match self.kind {
            PrincipalKind::Root => "Account",
            PrincipalKind::User => "User",
            PrincipalKind::Role | PrincipalKind::Session => "AssumedRole",
            PrincipalKind::FederatedUser => "FederatedUser",
        }
    }

    /// `aws:username`: users have one, sessions have not.
    pub fn username(&self) -> Option<&str> {
        let name = || self.arn.rsplit('/').next();
        (self.kind == PrincipalKind::User).then(name).flatten()
    }

    /// The condition keys that follow from who it is.
    pub fn keys(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let always = [
            ("aws:PrincipalArn", self.principal_arn()),
            ("aws:PrincipalAccount", self.account()),
            ("aws:PrincipalType", self.type_name()),
        ];
        always.into_iter().chain(self.username().map(|name| ("aws:username", name)))
    }

    /// `aws:PrincipalArn`: of a session its role's.
    pub fn principal_arn(&self) -> &str {
        self.role_arn.as_deref().unwrap_or(&self.arn)
    }
}

/// Twelve digits.
pub(crate) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_session(name: &str) -> bool {
    name.split_once('/')
        .is_some_and(|(role, session)| !role.is_empty() && !session.is_empty() && !session.contains('/'))
}

/// How a statement names a caller; what it grants depends on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Naming {
    /// By its account: that leaves it to the account's own policies.
    Account,
    /// By its role: within the role's boundary and the session's policy.
    Role,
    /// By its own ARN, or everybody: directly.
    Direct,
}

/// The `Principal` or `NotPrincipal` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principals {
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Everybody,
    Account(Box<str>),
    Arn(Box<str>),
    /// Services, federations, ids of what was deleted: none of our callers.
    Other,
}

impl Principals {
    pub fn everybody() -> Self {
        Self { entries: vec![Entry::Everybody] }
    }

    pub fn nobody() -> Self {
        Self { entries: Vec::new() }
    }

    /// One more, of a type such as `AWS`; the error says what was expected.
    pub fn add(&mut self, kind: &str, name: &str) -> Result<(), String> {
        self.entries.push(match kind {
            "AWS" => entry(name)?,
            "Service" | "Federated" | "CanonicalUser" => Entry::Other,
            _ => return Err(format!("`{kind}`: expected `AWS`, `Service`, `Federated` or `CanonicalUser`")),
        });
        Ok(())
    }

    /// How these name the caller, the strongest way; `None` if they do not.
    pub fn naming(&self, principal: Option<&Principal>) -> Option<Naming> {
        self.entries.iter().filter_map(|entry| entry.naming(principal)).max()
    }

    /// Whether all that the caller is known by is named: its ARN, its role's and its account.
    pub fn names_all_of(&self, principal: Option<&Principal>) -> bool {
        let names = |naming: Naming, is_there: bool| {
            !is_there || self.entries.iter().any(|entry| entry.naming(principal) == Some(naming))
        };
        let is_everybody = self.entries.contains(&Entry::Everybody);
        let Some(known) = principal else { return is_everybody };
        let has_own_role = known.role_arn.as_deref().is_some_and(|role| role != &*known.arn);
        let is_role = known.kind == PrincipalKind::Role;
        is_everybody
            || (names(Naming::Direct, !is_role && known.kind != PrincipalKind::Root)
                && names(Naming::Role, has_own_role || is_role)
                && names(Naming::Account, true))
    }

    /// Whom they name, for people.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| match entry {
            Entry::Everybody => "*",
            Entry::Account(account) => account,
            Entry::Arn(arn) => arn,
            Entry::Other => "nobody of Weir's",
        })
    }

    pub fn is_everybody(&self) -> bool {
        self.entries.contains(&Entry::Everybody)
    }
}

fn entry(name: &str) -> Result<Entry, String> {
    if name == "*" {
        return Ok(Entry::Everybody);
    }
    if is_account(name) {
        return Ok(Entry::Account(name.into()));
    }
    // What is left of a user or role that was deleted.
    if name.len() >= 16
        && name.starts_with('A')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
    {
        return Ok(Entry::Other);
    }
    if name.contains(['*', '?']) {
        return Err(format!("`{name}`: part of a principal cannot be a wildcard; only `*` alone means everybody"));
    }
    let principal = Principal::parse(name)?;
    Ok(match principal.kind {
        PrincipalKind::Root => Entry::Account(principal.account),
        _ => Entry::Arn(principal.arn),
    })
}

impl Entry {
    fn naming(&self, principal: Option<&Principal>) -> Option<Naming> {
        match (self, principal) {
            (Self::Everybody, _) => Some(Naming::Direct),
            (Self::Account(account), Some(caller)) => (*account == caller.account).then_some(Naming::Account),
            (Self::Arn(arn), Some(caller)) if caller.kind != PrincipalKind::Role && *arn == caller.arn => {
                Some(Naming::Direct)
            }
            (Self::Arn(arn), Some(caller)) => (Some(arn) == caller.role_arn.as_ref()).then_some(Naming::Role),
            (Self::Other, _) | (_, None) => None,
        }
    }
}
