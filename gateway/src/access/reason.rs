//! Why a caller was not let in.

use identity::Refused;
use identity::scram::Failure;
use types::{AccessKeyRecord, AccountId};

use super::known::Login;

/// For the log, and for the audit of whom it concerns. Callers are told one text for all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    Proof(Refused),
    /// It concerns this account, which has the user, key or issuer that was named; with the key.
    Of {
        account: AccountId,
        key: Option<String>,
        reason: Box<Reason>,
    },
    UnknownKey(String),
    /// The key is not derived for this day or region.
    NotDerived(String),
    /// A session token is missing, wrong, or goes with a key that has none.
    SessionToken,
    Expired,
    UnknownUser(String),
    Scram(Failure),
    /// Credentials would be readable on their way.
    NotPrivate,
    /// A cluster that is not the account's, or several to choose from.
    Cluster(String),
    /// No policy lets it connect.
    Connect(String),
    /// Another principal than the connection began with.
    OtherPrincipal,
    /// Less time is left than clients can renew in.
    SessionTooShort,
    Malformed(&'static str),
    /// No account trusts it for what the token is for.
    UnknownIssuer(String),
    /// Its keys cannot be had.
    Issuer(String),
    /// The token does not name a role that it may take on.
    Role(String),
    /// It came twice.
    Replayed,
    /// More came than can be told from replays.
    TooMany,
    /// Nobody is there who could tell whether it came before.
    Unsure,
    /// It has as many connections as it may, or makes them too fast.
    Connections(String),
}

impl From<Refused> for Reason {
    fn from(refused: Refused) -> Self {
        Self::Proof(refused)
    }
}

impl Reason {
    /// Of an account, and of a key of it; what is of one already stays so.
    pub fn of(self, account: AccountId, key: Option<String>) -> Self {
        match self {
            of @ Self::Of { .. } => of,
            reason => Self::Of { account, key, reason: Box::new(reason) },
        }
    }

    pub fn of_key(self, key: &AccessKeyRecord) -> Self {
        self.of(key.account, Some(key.id.clone()))
    }

    pub fn of_login(self, login: &Login) -> Self {
        self.of(login.account, login.key.clone())
    }

    /// The same without whom it concerns.
    pub fn what(&self) -> &Self {
        match self {
            Self::Of { reason, .. } => reason.what(),
            reason => reason,
        }
    }

    /// Whom it concerns: an account, and a key of it.
    pub fn whose(&self) -> (Option<AccountId>, Option<&str>) {
        match self {
            Self::Of { account, key, .. } => (Some(*account), key.as_deref()),
            _ => (None, None),
        }
    }

    /// A word for it that stays the same, and what there is to say beside.
    pub fn told(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Of { reason, .. } => reason.told(),
            Self::Proof(Refused::Malformed(what)) | Self::Malformed(what) | Self::Scram(Failure::Malformed(what)) => {
                ("malformed", Some(what))
            }
            Self::Proof(Refused::Elsewhere(name)) => ("signed_for_another", Some(name)),
            Self::Proof(Refused::Expired) | Self::Expired => ("expired", None),
            Self::Proof(Refused::Unsigned(header)) => ("unsigned_header", Some(header)),
            Self::Proof(Refused::WrongSignature) => ("wrong_signature", None),
            Self::UnknownKey(key) => ("unknown_key", Some(key)),
            Self::NotDerived(place) => ("unknown_day_or_region", Some(place)),
            Self::SessionToken => ("wrong_session_token", None),
            Self::UnknownUser(_) => ("unknown_user", None),
            Self::Scram(Failure::WrongProof) => ("wrong_password", None),
            Self::NotPrivate => ("not_private", None),
            Self::Cluster(why) => ("no_such_cluster", Some(why)),
            Self::Connect(why) => ("may_not_connect", Some(why)),
            Self::OtherPrincipal => ("other_principal", None),
            Self::SessionTooShort => ("session_too_short", None),
            Self::UnknownIssuer(issuer) => ("unknown_issuer", Some(issuer)),
            Self::Issuer(why) => ("issuer_unavailable", Some(why)),
            Self::Role(role) => ("wrong_role", Some(role)),
            Self::Replayed => ("replayed", None),
            Self::TooMany => ("too_many_requests", None),
            Self::Unsure => ("replay_unknown", None),
            Self::Connections(why) => ("too_many_connections", Some(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_it_concerns_is_said_once() {
        let reason = Reason::Proof(Refused::WrongSignature).of(AccountId(1), Some("AKIA".into()));
        let again = reason.clone().of(AccountId(2), None);
        assert_eq!(again, reason);
        assert_eq!(again.whose(), (Some(AccountId(1)), Some("AKIA")));
        assert_eq!((again.what(), again.told()), (&Reason::Proof(Refused::WrongSignature), ("wrong_signature", None)));
        assert_eq!(Reason::Replayed.whose(), (None, None));
    }
}
