//! DeleteGroups (key 42), versions 0 to 2: of groups without members.

use std::sync::Arc;

use policies::vocabulary::DELETE_GROUP;
use wire::groups::{GroupReply, GroupRequest};
use wire::kafka::{DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup};

use super::each_once;
use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};

pub async fn handle(caller: Arc<Caller>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups.len());
    for group_id in each_once(request.groups, Clone::clone) {
        if let Err(refusal) = caller.group(DELETE_GROUP, &group_id) {
            results.push(DeletedGroup { group_id, error: kafka_code(refusal.code) });
            continue;
        }
        let error = match ask(&caller, GroupRequest::Delete { group: group_id.clone() }).await {
            Ok(GroupReply::Done {}) => 0,
            other => super::group_code(refused(other)),
        };
        results.push(DeletedGroup { group_id, error });
    }
    DeleteGroupsResponse { throttle_ms: 0, results }
}
