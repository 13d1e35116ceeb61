//! DeleteGroups (key 42), versions 0 to 2: of groups without members.

use std::sync::Arc;

use wire::groups::{GroupReply, GroupRequest};
use wire::kafka::{DeleteGroupsRequest, DeleteGroupsResponse, DeletedGroup};

use crate::Gateway;
use crate::groups::{ask, refused};

pub async fn handle(gateway: Arc<Gateway>, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut results = Vec::with_capacity(request.groups.len());
    for group_id in request.groups {
        let error = match ask(&gateway, GroupRequest::Delete { group: group_id.clone() }).await {
            Ok(GroupReply::Done {}) => 0,
            other => super::group_code(refused(other)),
        };
        results.push(DeletedGroup { group_id, error });
    }
    DeleteGroupsResponse { throttle_ms: 0, results }
}
