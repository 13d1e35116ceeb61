//! SaslHandshake (key 17) and SaslAuthenticate (key 36): who is at the other end of a connection, and until when.
//!
//! Where clients must log in nothing but ApiVersions is answered before they have (KIP-43, KIP-152); whoever has logged in may
//! do so again on the same connection, as the same principal (KIP-368).

use std::sync::Arc;

use bytes::Bytes;
use policies::vocabulary::CONNECT;
use service::{clock, random};
use types::Flow;
use wire::codec::DecodeError;
use wire::kafka::{
    ApiKey, KafkaError, Message, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
    SaslHandshakeResponse,
};

use super::{Pending, Reply, refused, said};
use crate::Gateway;
use crate::access::known::Login;
use crate::access::permit::Permit;
use crate::access::proof::of_certificate;
use crate::access::reason::Reason;
use crate::access::sasl::{Mechanism, Place, Progress, Step, step};
use crate::access::{Origin, now_s};
use crate::caller::Caller;
use crate::quota::toll::Connected;
use crate::tenant::Tenant;

/// Mechanisms that a client may ask for in vain before it is closed.
const UNKNOWN_MAX: u8 = 3;
/// Less than so much time is none: clients would renew before every request, or never come to it.
const SESSION_MS_MIN: i64 = 15_000;

/// The logins of one connection.
pub(super) struct Gate {
    gateway: Arc<Gateway>,
    origin: Origin,
    /// The name that the client asked for by SNI.
    server_name: Option<String>,
    /// When the certificate of the client ends, in ms since 1970.
    certificate_ends_ms: Option<i64>,
    caller: Option<Arc<Caller>>,
    /// Counted as long as it is open.
    connected: Option<Connected>,
    progress: Option<Progress>,
    unknown: u8,
}

/// Whose turn it is with a request: that of its handler, or the gate has dealt with it.
pub(super) enum Turn {
    Begin(Arc<Caller>),
    Say(Say),
}

/// What a client is answered.
pub(super) enum Say {
    Answer(Pending),
    AnswerAndClose(Pending),
    Close(&'static str),
}

impl Gate {
    pub fn new(gateway: &Arc<Gateway>, origin: Origin, server_name: Option<String>) -> Self {
        let caller = (!gateway.access.is_required).then(|| Caller::anonymous(gateway));
        let (progress, unknown, connected, certificate_ends_ms) = (None, 0, None, None);
        let gateway = Arc::clone(gateway);
        Self { gateway, origin, server_name, certificate_ends_ms, caller, connected, progress, unknown }
    }

    /// Whether it still has to say who it is.
    pub fn is_closed(&self) -> bool {
        self.caller.is_none()
    }

    /// When the credentials of its caller end, or the certificate that the connection was let in with, in ms since 1970.
    pub fn expires_ms(&self) -> Option<i64> {
        let permit = self.caller.as_ref().and_then(|caller| caller.permit());
        permit.and_then(|permit| permit.login.expires_ms).into_iter().chain(self.certificate_ends_ms).min()
    }

    /// Who has logged in.
    pub fn caller(&self) -> Option<Arc<Caller>> {
        self.caller.clone()
    }

    /// Whether its caller was somebody and is nobody any more.
    pub fn is_gone(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.is_gone())
    }

    /// # Errors
    /// A message of a login that cannot be read.
    pub async fn take(&mut self, reply: Reply, body: &Bytes) -> Result<Turn, DecodeError> {
        let refuse = |error, message: &str| match refused::refuse(reply, body.clone(), error, message) {
            Some(pending) => Say::AnswerAndClose(pending),
            None => Say::Close("a request in the midst of a login"),
        };
        let say = match (reply.offered.key, self.progress.take()) {
            (ApiKey::SaslHandshake, None) => self.handshake(reply, &Message::decode(body.clone(), reply.version)?),
            (ApiKey::SaslAuthenticate, Some(progress)) => {
                let request = Message::decode(body.clone(), reply.version)?;
                self.authenticate(reply, progress, &request).await
            }
            (ApiKey::SaslAuthenticate, None) => {
                let _: SaslAuthenticateRequest = Message::decode(body.clone(), reply.version)?;
                refuse(KafkaError::IllegalSaslState, "SaslHandshake comes first")
            }
            (_, Some(_)) => refuse(KafkaError::IllegalSaslState, "a login is under way"),
            (key, None) => match &self.caller {
                // Its table of versions; the caller does not matter.
                None if key == ApiKey::ApiVersions => return Ok(Turn::Begin(Caller::anonymous(&self.gateway))),
                None => Say::Close("a request of a client that did not log in"),
                Some(caller) if caller.is_gone() => Say::Close("a request after the end of its credentials"),
                Some(caller) => {
                    caller.toll.charge(Flow::Requests, 1);
                    // Bytes are counted where they are known.
                    if let Some(flow @ (Flow::TopicChanges | Flow::ProducerIds)) = flow_of(key) {
                        caller.toll.charge(flow, 1);
                    }
                    return Ok(Turn::Begin(Arc::clone(caller)));
                }
            },
        };
        Ok(Turn::Say(say))
    }

    fn handshake(&mut self, reply: Reply, request: &SaslHandshakeRequest) -> Say {
        let mechanisms = Mechanism::ALL.map(|known| known.name().to_owned()).to_vec();
        let say = |error: KafkaError| {
            let error = error as i16;
            said(reply, SaslHandshakeResponse { error, mechanisms })
        };
        // After version 0 tokens would follow without a header, and without a place for errors.
        if reply.version == 0 {
            return Say::AnswerAndClose(say(KafkaError::UnsupportedVersion));
        }
        match Mechanism::of_name(&request.mechanism) {
            Some(mechanism) => {
                self.progress = Some(Progress::Chosen(mechanism));
                Say::Answer(say(KafkaError::None))
            }
            None => {
                self.unknown += 1;
                let answer = say(KafkaError::UnsupportedSaslMechanism);
                // Some clients go on with the next that they know.
                if self.unknown < UNKNOWN_MAX { Say::Answer(answer) } else { Say::AnswerAndClose(answer) }
            }
        }
    }

    async fn authenticate(&mut self, reply: Reply, progress: Progress, request: &SaslAuthenticateRequest) -> Say {
        let ok = |auth_bytes: Vec<u8>, session_lifetime_ms: i64| {
            let auth_bytes = auth_bytes.into();
            let response = SaslAuthenticateResponse { auth_bytes, session_lifetime_ms, ..Default::default() };
            Say::Answer(said(reply, response))
        };
        let host = self.server_name.clone();
        let account = self.gateway.account_of_host(host.as_deref());
        let is_ours = |name: &str| self.gateway.is_own_name(name, self.origin);
        let place = Place { origin: self.origin, account, is_ours: &is_ours, now_s: now_s() };
        let stepped = step(&self.gateway.access, progress, &request.auth_bytes, &place).await;
        let taken = stepped.and_then(|step| match step {
            Step::Next(answer, progress) => Ok((answer, Some(progress), 0)),
            Step::Done(answer, login) => self.enter(*login).map(|lifetime_ms| (answer, None, lifetime_ms)),
        });
        match taken {
            Ok((answer, progress, lifetime_ms)) => {
                self.progress = progress;
                ok(answer, lifetime_ms)
            }
            Err(reason) => {
                let id = format!("{:032x}", random::wide());
                tracing::warn!(id, address = %self.origin.address, ?reason, "a Kafka client was not let in");
                self.gateway.access.note_refused(self.origin, &id, &reason);
                let message = match reason.what() {
                    Reason::SessionTooShort => "Session too short".to_owned(),
                    Reason::OtherPrincipal => "Cannot change principals during re-authentication".to_owned(),
                    // Told to whom the proof was right.
                    Reason::Connect(why) | Reason::Cluster(why) => format!("[{id}]: Access denied: {why}"),
                    // As MSK says it, and which quota it is.
                    Reason::Connections(why) => format!("[{id}]: Too many connects: {why}"),
                    // As MSK says it: never why.
                    _ => format!("[{id}]: Access denied"),
                };
                let error = KafkaError::SaslAuthenticationFailed as i16;
                let response = SaslAuthenticateResponse { error, error_message: Some(message), ..Default::default() };
                Say::AnswerAndClose(said(reply, response))
            }
        }
    }

    /// Lets in whom the client's certificate names; others may still log in. No longer than it is valid, in any case.
    pub fn enter_by_certificate(&mut self, uris: &[String], ends_ms: Option<i64>) {
        self.certificate_ends_ms = ends_ms;
        if !self.is_closed() {
            return;
        }
        let Some(login) = of_certificate(&self.gateway.access.known(), uris) else { return };
        if let Err(reason) = self.enter(login) {
            let id = format!("{:032x}", random::wide());
            tracing::warn!(id, address = %self.origin.address, ?reason, "a Kafka client with a certificate was not let in");
            self.gateway.access.note_refused(self.origin, &id, &reason);
        }
    }

    /// Lets the caller in; for how long, in ms, or 0 where it does not end.
    fn enter(&mut self, login: Login) -> Result<i64, Reason> {
        let (account, key) = (login.account, login.key.clone());
        self.try_to_enter(login).map_err(|reason| reason.of(account, key))
    }

    fn try_to_enter(&mut self, login: Login) -> Result<i64, Reason> {
        let before = self.caller.as_ref().and_then(|caller| caller.permit());
        if before.is_some_and(|before| !before.login.is_same_principal(&login)) {
            return Err(Reason::OtherPrincipal);
        }
        let lifetime_ms = match login.expires_ms.map(|expires_ms| expires_ms - clock::wall_ms()) {
            Some(left_ms) if left_ms < SESSION_MS_MIN => return Err(Reason::SessionTooShort),
            left_ms => left_ms.unwrap_or(0),
        };
        let mut caller = admit(&self.gateway, login, self.server_name.as_deref(), self.origin)?;
        match &self.caller {
            Some(before) => {
                // Nobody else has it yet.
                if let Some(caller) = Arc::get_mut(&mut caller) {
                    caller.toll.go_on_from(&before.toll);
                }
            }
            None => {
                self.connected = Some(caller.toll.connect().map_err(|refusal| Reason::Connections(refusal.message))?)
            }
        }
        self.caller = Some(caller);
        Ok(lifetime_ms)
    }
}

/// What a call uses up beside being a request.
pub fn flow_of(key: ApiKey) -> Option<Flow> {
    match key {
        ApiKey::Produce => Some(Flow::Ingress),
        ApiKey::Fetch => Some(Flow::Egress),
        ApiKey::InitProducerId => Some(Flow::ProducerIds),
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs => Some(Flow::TopicChanges),
        _ => None,
    }
}

/// The caller that a login makes: in which cluster, and whether it may connect to it.
///
/// # Errors
/// There is no such cluster, or several; or no policy lets it connect.
pub fn admit(
    gateway: &Arc<Gateway>,
    login: Login,
    cluster: Option<&str>,
    origin: Origin,
) -> Result<Arc<Caller>, Reason> {
    let may_connect = |tenant: &Tenant| {
        let permit = Permit::new(&gateway.access, gateway.id, login.clone(), *tenant, origin);
        permit.is_some_and(|permit| Caller::of(gateway, *tenant, permit).sees(CONNECT, ""))
    };
    let tenant = gateway.tenant_of(&login, cluster, may_connect)?;
    admit_to(gateway, login, tenant, origin)
}

/// The same for a cluster that is known already.
///
/// # Errors
/// No policy lets it connect.
pub fn admit_to(gateway: &Arc<Gateway>, login: Login, tenant: Tenant, origin: Origin) -> Result<Arc<Caller>, Reason> {
    let permit = Permit::new(&gateway.access, gateway.id, login, tenant, origin).ok_or(Reason::Expired)?;
    let caller = Caller::of(gateway, tenant, permit);
    match caller.cluster(CONNECT) {
        Ok(()) => Ok(caller),
        Err(refusal) => Err(Reason::Connect(refusal.message)),
    }
}
