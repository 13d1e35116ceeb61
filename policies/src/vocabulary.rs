//! The actions that Weir knows, and what each is about: Amazon MSK's `kafka-cluster:` actions, whole (Service Authorization
//! Reference, "Apache Kafka APIs for Amazon MSK clusters").

/// What an action is about; the type of the resource's ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ResourceType {
    Cluster,
    Topic,
    Group,
    TransactionalId,
    /// An account of Weir; the whole service is the operator's.
    Account,
}

impl ResourceType {
    /// What stands before the first slash of the ARN's last part.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Topic => "topic",
            Self::Group => "group",
            Self::TransactionalId => "transactional-id",
            Self::Account => "account",
        }
    }
}

/// An action and what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownAction {
    pub name: &'static str,
    pub resource: ResourceType,
}

macro_rules! actions {
    ($($constant:ident = $name:literal on $resource:ident;)*) => {
        $(pub const $constant: KnownAction = KnownAction { name: $name, resource: ResourceType::$resource };)*
        /// All of them.
        pub const ACTIONS: &[KnownAction] = &[$($constant),*];
    };
}

actions! {
    CONNECT = "kafka-cluster:Connect" on Cluster;
    DESCRIBE_CLUSTER = "kafka-cluster:DescribeCluster" on Cluster;
    ALTER_CLUSTER = "kafka-cluster:AlterCluster" on Cluster;
    DESCRIBE_CLUSTER_CONFIG = "kafka-cluster:DescribeClusterDynamicConfiguration" on Cluster;
    ALTER_CLUSTER_CONFIG = "kafka-cluster:AlterClusterDynamicConfiguration" on Cluster;
    WRITE_DATA_IDEMPOTENTLY = "kafka-cluster:WriteDataIdempotently" on Cluster;
    CREATE_TOPIC = "kafka-cluster:CreateTopic" on Topic;
    DESCRIBE_TOPIC = "kafka-cluster:DescribeTopic" on Topic;
    ALTER_TOPIC = "kafka-cluster:AlterTopic" on Topic;
    DELETE_TOPIC = "kafka-cluster:DeleteTopic" on Topic;
    DESCRIBE_TOPIC_CONFIG = "kafka-cluster:DescribeTopicDynamicConfiguration" on Topic;
    ALTER_TOPIC_CONFIG = "kafka-cluster:AlterTopicDynamicConfiguration" on Topic;
    READ_DATA = "kafka-cluster:ReadData" on Topic;
    WRITE_DATA = "kafka-cluster:WriteData" on Topic;
    DESCRIBE_GROUP = "kafka-cluster:DescribeGroup" on Group;
    ALTER_GROUP = "kafka-cluster:AlterGroup" on Group;
    DELETE_GROUP = "kafka-cluster:DeleteGroup" on Group;
    DESCRIBE_TRANSACTIONAL_ID = "kafka-cluster:DescribeTransactionalId" on TransactionalId;
    ALTER_TRANSACTIONAL_ID = "kafka-cluster:AlterTransactionalId" on TransactionalId;
    DESCRIBE_ACCOUNT = "account:DescribeAccount" on Account;
    MANAGE_ACCOUNT = "account:ManageAccount" on Account;
    CREATE_ACCOUNT = "account:CreateAccount" on Account;
    MANAGE_QUOTA = "account:ManageQuota" on Account;
    DESCRIBE_SERVICE = "cluster:DescribeService" on Account;
    OPERATE_SERVICE = "cluster:OperateService" on Account;
}
