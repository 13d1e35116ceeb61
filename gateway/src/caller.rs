//! Who asks, whose data the request is about, and whether it may.

use std::sync::Arc;

use policies::vocabulary::{
    ALTER_GROUP, CONNECT, DELETE_GROUP, DESCRIBE_CLUSTER, DESCRIBE_CLUSTER_CONFIG, DESCRIBE_GROUP, DESCRIBE_TOPIC,
    DESCRIBE_TOPIC_CONFIG, KnownAction, READ_DATA, ResourceType,
};
use types::{AccountId, ErrorCode, GatewayRecord, RESERVED_CLUSTER, TopicId, TopicRecord};
use wire::frame::Refusal;

use crate::Gateway;
use crate::access::permit::{self, Permit};
use crate::error::refuse;
use crate::names;
use crate::quota::toll::Toll;
use crate::tenant::Tenant;

/// A client of this gateway: what it asks for is looked up in its own cluster alone, and only if it may.
#[derive(Debug)]
pub struct Caller {
    pub gateway: Arc<Gateway>,
    pub tenant: Tenant,
    /// What it pays for what it uses.
    pub toll: Toll,
    /// `None`: nobody has to log in here, and everyone is an admin of the `default` cluster.
    permit: Option<Permit>,
}

/// What a denial of an action is answered with.
fn denial(action: KnownAction) -> ErrorCode {
    match action.resource {
        ResourceType::Topic => ErrorCode::TopicDenied,
        ResourceType::Group => ErrorCode::GroupDenied,
        ResourceType::Cluster | ResourceType::TransactionalId | ResourceType::Account => ErrorCode::ClusterDenied,
    }
}

/// Whether an action is more than reading, alone or as a group.
fn changes(action: KnownAction) -> bool {
    let reads = [
        CONNECT,
        DESCRIBE_CLUSTER,
        DESCRIBE_CLUSTER_CONFIG,
        DESCRIBE_TOPIC,
        DESCRIBE_TOPIC_CONFIG,
        READ_DATA,
        DESCRIBE_GROUP,
        ALTER_GROUP,
        DELETE_GROUP,
    ];
    !reads.iter().any(|read| read.name == action.name)
}

/// A topic, or why there is none for this caller.
pub type Found<'a> = Result<&'a Arc<TopicRecord>, &'a Refusal>;

impl Caller {
    /// Whoever reaches this gateway, where nobody has to log in: an admin of the `default` cluster and of the whole service.
    pub fn anonymous(gateway: &Arc<Gateway>) -> Arc<Self> {
        let (tenant, toll) = (gateway.tenant, Toll::new(gateway, gateway.tenant, None));
        Arc::new(Self { gateway: Arc::clone(gateway), tenant, toll, permit: None })
    }

    pub fn of(gateway: &Arc<Gateway>, tenant: Tenant, permit: Permit) -> Arc<Self> {
        let toll = Toll::new(gateway, tenant, Some(&permit.login));
        Arc::new(Self { gateway: Arc::clone(gateway), tenant, toll, permit: Some(permit) })
    }

    pub fn permit(&self) -> Option<&Permit> {
        self.permit.as_ref()
    }

    /// Whether it was somebody when it logged in, and is nobody any more, or may not connect any more.
    pub fn is_gone(&self) -> bool {
        // Whoever is nobody may do nothing.
        !self.sees(CONNECT, "")
    }

    /// Gateways that it reaches, by the names of its cluster.
    pub fn gateways(&self, is_tls: bool) -> Vec<GatewayRecord> {
        let mut gateways = self.gateway.gateways_for(is_tls);
        let known = self.gateway.access.known();
        names::of_gateways(&mut gateways, known.cluster_of(self.tenant).map(|cluster| &cluster.record));
        gateways
    }

    fn check(
        &self,
        action: KnownAction,
        is_quiet: bool,
        resource: impl FnOnce() -> Option<String>,
    ) -> Result<(), Refusal> {
        let Some(permit) = &self.permit else { return Ok(()) };
        let code = denial(action);
        let gone = || refuse(code, "the credentials of this connection are not valid any more");
        let resource = resource().ok_or_else(gone)?;
        permit.check(&self.gateway.access, action.name, resource, is_quiet).map_err(|refusal| match refusal {
            permit::Refusal::Gone => gone(),
            permit::Refusal::Unseen => refuse(code, "not among what this caller may see"),
            permit::Refusal::Denied(denied) => {
                let (who, id) = (denied.standing.principal.arn(), &denied.id);
                let what = format!("`{who}` may not {} on `{}`", denied.action, denied.resource);
                refuse(code, format!("{what} (decision {id}: `weir policy why {id}`)"))
            }
        })
    }

    fn in_cluster(&self, action: KnownAction, name: &str, is_quiet: bool) -> Result<(), Refusal> {
        let known = self.gateway.access.known();
        if changes(action) && known.cluster_of(self.tenant).is_some_and(|cluster| cluster.record.is_reserved()) {
            if let Some(permit) = self.permit.as_ref().filter(|_| !is_quiet) {
                let arn = known.cluster_of(self.tenant).map(|own| own.record.arn(action.resource.name(), name));
                permit.audit_refused(&self.gateway.access, action.name, &arn.unwrap_or_default());
            }
            let message = format!("the cluster `{RESERVED_CLUSTER}` is the service's own: it can be read");
            return Err(refuse(denial(action), message));
        }
        self.check(action, is_quiet, || Some(known.cluster_of(self.tenant)?.record.arn(action.resource.name(), name)))
    }

    /// Whether topics are made by writing to them: in the `default` cluster, not in those that were created.
    pub fn makes_topics_by_itself(&self) -> bool {
        self.tenant == self.gateway.tenant
    }

    /// Whether it may do this to its cluster.
    ///
    /// # Errors
    /// `ClusterDenied`, with the id of the decision.
    pub fn cluster(&self, action: KnownAction) -> Result<(), Refusal> {
        self.in_cluster(action, "", false)
    }

    /// Whether it may do this to a group of its cluster, whether or not there is one of that name.
    ///
    /// # Errors
    /// `GroupDenied`, with the id of the decision.
    pub fn group(&self, action: KnownAction, name: &str) -> Result<(), Refusal> {
        self.in_cluster(action, name, false)
    }

    /// Whether it may do this to a topic, whether or not there is one of that name.
    ///
    /// # Errors
    /// `TopicDenied`, with the id of the decision.
    pub fn may_topic(&self, action: KnownAction, name: &str) -> Result<(), Refusal> {
        self.in_cluster(action, name, false)
    }

    /// Whether something of its cluster is among what it sees; nobody is told if it is not. An empty name is the cluster's.
    pub fn sees(&self, action: KnownAction, name: &str) -> bool {
        self.in_cluster(action, name, true).is_ok()
    }

    /// Whether it may do this to an account. Operators, the principals of account 000000000000, are asked for
    /// `arn:aws:account::000000000000:account/ID`; others for `arn:aws:account::ID:account`, of their own account.
    ///
    /// # Errors
    /// `ClusterDenied`; `NotFound` for an account that is not the caller's, whether or not it is there.
    pub fn account(&self, action: KnownAction, account: AccountId) -> Result<(), Refusal> {
        let Some(permit) = &self.permit else { return Ok(()) };
        let own = permit.login.account;
        let operator = self.gateway.tenant.account;
        if own != account && own != operator {
            return Err(refuse(ErrorCode::NotFound, format!("there is no account `{}`", account.digits())));
        }
        let digits = own.digits();
        self.check(action, false, || {
            let within = if own == account { String::new() } else { format!("/{}", account.digits()) };
            Some(format!("arn:aws:account::{digits}:account{within}"))
        })
    }

    /// Whether it may do this to an account as one of the operators: the account's own principals may not.
    ///
    /// # Errors
    /// `ClusterDenied`; `NotFound` for an account that is not the caller's, whether or not it is there.
    pub fn as_operator(&self, action: KnownAction, account: AccountId) -> Result<(), Refusal> {
        let operator = self.gateway.tenant.account;
        let is_operator = self.permit.as_ref().is_none_or(|permit| permit.login.account == operator);
        let own = self.permit.as_ref().map(|permit| permit.login.account);
        if !is_operator && own == Some(account) {
            return Err(refuse(ErrorCode::ClusterDenied, "this is for the operators of the service"));
        }
        self.account(action, account)
    }

    /// Whether it may do this to the whole service: only operators may.
    ///
    /// # Errors
    /// `ClusterDenied`.
    pub fn service(&self, action: KnownAction) -> Result<(), Refusal> {
        let is_operator = self.permit.as_ref().is_none_or(|permit| permit.login.account == self.gateway.tenant.account);
        if !is_operator {
            return Err(refuse(ErrorCode::ClusterDenied, "this is for the operators of the service"));
        }
        self.account(action, self.gateway.tenant.account)
    }

    /// A topic of its cluster that it may do this to.
    ///
    /// # Errors
    /// `TopicDenied` whether or not it is there, then `UnknownTopic`.
    pub fn topic(&self, action: KnownAction, name: &str) -> Result<Arc<TopicRecord>, Refusal> {
        self.may_topic(action, name)?;
        self.find(name)
    }

    /// A topic of its cluster; whether it may is asked elsewhere.
    ///
    /// # Errors
    /// `UnknownTopic`.
    pub fn find(&self, name: &str) -> Result<Arc<TopicRecord>, Refusal> {
        let topic = self.gateway.map.topic(self.tenant, name);
        topic.ok_or_else(|| refuse(ErrorCode::UnknownTopic, format!("topic `{name}` does not exist")))
    }

    /// The topic of an id, if it is of its cluster and it may do this to it.
    ///
    /// # Errors
    /// `UnknownTopic`, also where it may not: whoever may not see a topic does not learn that there is one.
    pub fn topic_by_id(&self, action: KnownAction, id: TopicId) -> Result<Arc<TopicRecord>, Refusal> {
        let unknown = || refuse(ErrorCode::UnknownTopic, format!("there is no topic {id}"));
        let topic = self.gateway.map.topic_by_id(self.tenant, id).ok_or_else(unknown)?;
        self.in_cluster(action, &topic.name, true).map_err(|_| unknown())?;
        Ok(topic)
    }

    /// Topics of its cluster that it may do this to, by name.
    pub fn topics(&self, action: KnownAction) -> Vec<Arc<TopicRecord>> {
        let mut topics = self.gateway.map.topics(self.tenant);
        topics.retain(|topic| self.sees(action, &topic.name));
        topics
    }
}
