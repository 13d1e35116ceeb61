//! What tools ask after that is not there: reassignments (key 46), client quotas (48), ACLs (29 to 31).
//!
//! Partitions move without anybody's plan, so no reassignment is ever under way. Access is decided by policies, not by
//! ACLs: those calls are answered as by a broker without an authorizer, which is what tools hide them for.

use wire::kafka::{
    AclCreationResult, CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse, DeleteAclsResult,
    DescribeAclsResponse, DescribeClientQuotasResponse, KafkaError, ListPartitionReassignmentsResponse,
};

const NO_ACLS: &str = "there are no ACLs here";

pub async fn reassignments() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default()
}

pub async fn client_quotas() -> DescribeClientQuotasResponse {
    DescribeClientQuotasResponse { entries: Some(Vec::new()), ..DescribeClientQuotasResponse::default() }
}

pub async fn acls() -> DescribeAclsResponse {
    DescribeAclsResponse {
        error: KafkaError::SecurityDisabled as i16,
        error_message: Some(NO_ACLS.to_owned()),
        ..DescribeAclsResponse::default()
    }
}

pub async fn create_acls(request: CreateAclsRequest) -> CreateAclsResponse {
    let refused =
        |_| AclCreationResult { error: KafkaError::SecurityDisabled as i16, error_message: Some(NO_ACLS.to_owned()) };
    CreateAclsResponse { throttle_ms: 0, results: request.creations.into_iter().map(refused).collect() }
}

pub async fn delete_acls(request: DeleteAclsRequest) -> DeleteAclsResponse {
    let refused = |_| DeleteAclsResult {
        error: KafkaError::SecurityDisabled as i16,
        error_message: Some(NO_ACLS.to_owned()),
        matches: Vec::new(),
    };
    DeleteAclsResponse { throttle_ms: 0, results: request.filters.into_iter().map(refused).collect() }
}
