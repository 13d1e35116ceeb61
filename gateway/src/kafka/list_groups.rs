//! ListGroups (key 16), versions 0 to 5. Tools ask every broker: each gateway names the groups that it is shown to
//! coordinate.

use std::sync::Arc;

use policies::vocabulary::{DESCRIBE_CLUSTER, DESCRIBE_GROUP};
use wire::kafka::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::Client;
use crate::caller::Caller;
use crate::groups::list;
use crate::map::shown_coordinator;

/// Of every group here; the newer kinds are not offered.
const CLASSIC: &str = "classic";

pub async fn handle(caller: Arc<Caller>, client: Client, request: ListGroupsRequest) -> ListGroupsResponse {
    let listed = match list(&caller).await {
        Ok(listed) => listed,
        Err(refusal) => {
            return ListGroupsResponse { error: super::group_code(refusal.code), ..ListGroupsResponse::default() };
        }
    };
    let gateways = caller.gateways(client.is_tls);
    // Whoever may describe the cluster may know what groups there are.
    let sees_all = caller.sees(DESCRIBE_CLUSTER, "");
    let is_wanted = |filter: &[String], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let groups = listed.into_iter().filter(|group| {
        let is_ours = shown_coordinator(&gateways, &group.group).is_none_or(|shown| shown == caller.gateway.id);
        let is_seen = sees_all || caller.sees(DESCRIBE_GROUP, &group.group);
        is_ours
            && is_seen
            && is_wanted(&request.states_filter, &group.state)
            && is_wanted(&request.types_filter, CLASSIC)
    });
    let shown = groups.map(|group| ListedGroup {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: group.state,
        group_type: CLASSIC.to_owned(),
    });
    ListGroupsResponse { groups: shown.collect(), ..ListGroupsResponse::default() }
}
