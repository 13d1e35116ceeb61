//! DescribeGroups (key 15), versions 0 to 5. A group that does not exist is shown as dead, as Kafka shows it.

use std::sync::Arc;

use policies::vocabulary::DESCRIBE_GROUP;
use types::ErrorCode;
use wire::groups::{DescribedMember, GroupReply, GroupRequest};
use wire::kafka::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember};

use super::each_once;
use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};

pub async fn handle(caller: Arc<Caller>, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in each_once(request.groups, Clone::clone) {
        groups.push(describe(&caller, group).await);
    }
    DescribeGroupsResponse { throttle_ms: 0, groups }
}

async fn describe(caller: &Arc<Caller>, group: String) -> DescribedGroup {
    if let Err(refusal) = caller.group(DESCRIBE_GROUP, &group) {
        return DescribedGroup { error: kafka_code(refusal.code), group_id: group, ..DescribedGroup::default() };
    }
    let code = match ask(caller, GroupRequest::Describe { group: group.clone() }).await {
        Ok(GroupReply::Described { described }) => {
            return DescribedGroup {
                group_id: group,
                group_state: described.state,
                protocol_type: described.protocol_type,
                protocol_data: described.protocol,
                members: described.members.into_iter().map(member).collect(),
                ..DescribedGroup::default()
            };
        }
        other => refused(other),
    };
    if code == ErrorCode::GroupNotFound {
        return DescribedGroup { group_id: group, group_state: "Dead".to_owned(), ..DescribedGroup::default() };
    }
    DescribedGroup { error: super::group_code(code), group_id: group, ..DescribedGroup::default() }
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: member.name.member,
        group_instance_id: member.name.instance,
        client_id: member.client_id,
        client_host: member.client_host,
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    }
}
