//! ListGroups (key 16), versions 0 to 5. Tools ask every broker: each gateway names the groups that it is shown to
//! coordinate.

use std::sync::Arc;

use wire::kafka::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::Client;
use crate::Gateway;
use crate::groups::list;
use crate::map::shown_coordinator;

/// Of every group here; the newer kinds are not offered.
const CLASSIC: &str = "classic";

pub async fn handle(gateway: Arc<Gateway>, client: Client, request: ListGroupsRequest) -> ListGroupsResponse {
    let listed = match list(&gateway).await {
        Ok(listed) => listed,
        Err(refusal) => {
            return ListGroupsResponse { error: super::group_code(refusal.code), ..ListGroupsResponse::default() };
        }
    };
    let gateways = gateway.gateways_for(client.is_tls);
    let is_wanted = |filter: &[String], value: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
    };
    let groups = listed.into_iter().filter(|group| {
        let is_ours = shown_coordinator(&gateways, &group.group).is_none_or(|shown| shown == gateway.id);
        is_ours && is_wanted(&request.states_filter, &group.state) && is_wanted(&request.types_filter, CLASSIC)
    });
    let shown = groups.map(|group| ListedGroup {
        group_id: group.group,
        protocol_type: group.protocol_type,
        group_state: group.state,
        group_type: CLASSIC.to_owned(),
    });
    ListGroupsResponse { groups: shown.collect(), ..ListGroupsResponse::default() }
}
