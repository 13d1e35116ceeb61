//! LeaveGroup (key 13), versions 0 to 5: one member, or from version 3 on several (KIP-345).

use std::sync::Arc;

use policies::vocabulary::ALTER_GROUP;
use wire::groups::{GroupReply, GroupRequest, MemberName};
use wire::kafka::{LeaveGroupRequest, LeaveGroupResponse, LeftMember};

use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};

const MANY_SINCE: i16 = 3;

pub async fn handle(caller: Arc<Caller>, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if let Err(refusal) = caller.group(ALTER_GROUP, &request.group_id) {
        return LeaveGroupResponse { error: kafka_code(refusal.code), ..LeaveGroupResponse::default() };
    }
    let names = if version >= MANY_SINCE {
        let members = request.members.into_iter();
        members.map(|member| MemberName { member: member.member_id, instance: member.group_instance_id }).collect()
    } else {
        vec![MemberName { member: request.member_id, instance: None }]
    };
    let code = |code: Option<types::ErrorCode>| code.map_or(0, super::group_code);
    match ask(&caller, GroupRequest::Leave { group: request.group_id, names }).await {
        Ok(GroupReply::Left { members }) if version >= MANY_SINCE => {
            let members = members.into_iter().map(|left| LeftMember {
                member_id: left.name.member,
                group_instance_id: left.name.instance,
                error: code(left.error),
            });
            LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() }
        }
        Ok(GroupReply::Left { members }) => {
            let error = code(members.first().and_then(|left| left.error));
            LeaveGroupResponse { error, ..LeaveGroupResponse::default() }
        }
        other => LeaveGroupResponse { error: code(Some(refused(other))), ..LeaveGroupResponse::default() },
    }
}
