//! OffsetFetch (key 9), versions 1 to 9: of one group, or from version 8 on of several.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use policies::vocabulary::{DESCRIBE_GROUP, DESCRIBE_TOPIC};
use types::{ErrorCode, TopicId, TopicPartition};
use wire::groups::{CommittedOffset, GroupReply, GroupRequest};
use wire::kafka::{
    OffsetFetchGroup, OffsetFetchGroupResponse, OffsetFetchPartitionResponse, OffsetFetchRequest, OffsetFetchResponse,
    OffsetFetchTopic, OffsetFetchTopicResponse,
};

use super::{Named, each_once};
use crate::caller::Caller;
use crate::error::kafka_code;
use crate::groups::{ask, refused};
use crate::map::Map;
use crate::tenant::Tenant;

const MANY_SINCE: i16 = 8;
/// How far a map may be behind what another gateway committed.
const MAP_WAIT: Duration = Duration::from_secs(1);

pub async fn handle(caller: Arc<Caller>, version: i16, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if version < MANY_SINCE {
        let (topics, error) = of_group(&caller, request.group_id, request.topics).await;
        return OffsetFetchResponse { topics, error, ..OffsetFetchResponse::default() };
    }
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in each_once(request.groups, named) {
        let (topics, error) = of_group(&caller, group.group_id.clone(), group.topics).await;
        groups.push(OffsetFetchGroupResponse { group_id: group.group_id, topics, error });
    }
    OffsetFetchResponse { groups, ..OffsetFetchResponse::default() }
}

/// A group, and what of it: a group may be asked for again about other topics.
fn named(group: &OffsetFetchGroup) -> (String, Option<Vec<(String, Vec<i32>)>>) {
    let topics = group.topics.as_ref();
    let topics =
        topics.map(|topics| topics.iter().map(|topic| (topic.name.clone(), topic.partitions.clone())).collect());
    (group.group_id.clone(), topics)
}

async fn of_group(
    caller: &Arc<Caller>,
    group: String,
    wanted: Option<Vec<OffsetFetchTopic>>,
) -> (Vec<OffsetFetchTopicResponse>, i16) {
    if let Err(refusal) = caller.group(DESCRIBE_GROUP, &group) {
        let error = kafka_code(refusal.code);
        return (
            wanted.into_iter().flatten().map(|topic| of_topic(caller, topic, &HashMap::new(), error)).collect(),
            error,
        );
    }
    let (offsets, error) = match ask(caller, GroupRequest::Offsets { group }).await {
        Ok(GroupReply::Offsets { offsets }) => (offsets, 0),
        other => (Vec::new(), super::group_code(refused(other))),
    };
    if let Some(wanted) = &wanted {
        wait_for_topics(&caller.gateway.map, caller.tenant, wanted, &offsets).await;
    }
    match wanted {
        // Below version 2 there is no other place for an error.
        Some(wanted) => {
            let offsets = offsets.iter().map(|offset| (offset.partition, offset)).collect();
            let mut once = Named::default();
            let topics = wanted.into_iter().map(|mut topic| {
                topic.partitions.retain(|index| once.is_new(&topic.name, *index));
                of_topic(caller, topic, &offsets, error)
            });
            (topics.collect(), error)
        }
        None => (all(caller, offsets), error),
    }
}

/// A topic that this gateway has yet to hear of has offsets all the same: "none" would have a consumer skip or repeat.
async fn wait_for_topics(map: &Map, tenant: Tenant, wanted: &[OffsetFetchTopic], offsets: &[CommittedOffset]) {
    let is_behind = || {
        wanted.iter().any(|topic| map.topic(tenant, &topic.name).is_none())
            && offsets.iter().any(|offset| map.topic_by_id(tenant, offset.partition.topic).is_none())
    };
    let mut changes = map.changes();
    let heard = async {
        loop {
            changes.mark_unchanged();
            if !is_behind() || changes.changed().await.is_err() {
                return;
            }
        }
    };
    // Offsets of deleted topics look the same, and stay.
    let _ = tokio::time::timeout(MAP_WAIT, heard).await;
}

fn of_topic(
    caller: &Caller,
    topic: OffsetFetchTopic,
    offsets: &HashMap<TopicPartition, &CommittedOffset>,
    error: i16,
) -> OffsetFetchTopicResponse {
    let found = caller.topic(DESCRIBE_TOPIC, &topic.name);
    let error = match &found {
        Err(refusal) if refusal.code == ErrorCode::TopicDenied => kafka_code(refusal.code),
        // Of a topic that is not there nothing is committed.
        _ => error,
    };
    let id = found.ok().map(|record| record.id);
    let partition = |index: i32| {
        let found = id.and_then(|topic| offsets.get(&TopicPartition { topic, partition: index }));
        let nothing =
            OffsetFetchPartitionResponse { index, metadata: Some(String::new()), error, ..Default::default() };
        found.map_or(nothing, |found| shown(found))
    };
    OffsetFetchTopicResponse { partitions: topic.partitions.into_iter().map(partition).collect(), name: topic.name }
}

/// All that was committed of topics that exist.
fn all(caller: &Caller, offsets: Vec<CommittedOffset>) -> Vec<OffsetFetchTopicResponse> {
    let mut topics: BTreeMap<TopicId, Vec<OffsetFetchPartitionResponse>> = BTreeMap::new();
    for offset in offsets {
        topics.entry(offset.partition.topic).or_default().push(shown(&offset));
    }
    let named = topics.into_iter().filter_map(|(id, partitions)| {
        let record = caller.topic_by_id(DESCRIBE_TOPIC, id).ok()?;
        Some(OffsetFetchTopicResponse { name: record.name.clone(), partitions })
    });
    named.collect()
}

fn shown(offset: &CommittedOffset) -> OffsetFetchPartitionResponse {
    OffsetFetchPartitionResponse {
        index: offset.partition.partition,
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: Some(offset.metadata.clone()),
        error: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use service::api::MapChanges;
    use types::{AccountId, ClusterId, Generation, TopicRecord};

    use super::*;

    const TENANT: Tenant = Tenant { account: AccountId(1), cluster: ClusterId(1) };

    /// Whether what was committed of topic 7 is waited for by one that asks for topic `t`; how long it took.
    async fn wait(map: &Map) -> Duration {
        let wanted = [OffsetFetchTopic { name: "t".to_owned(), partitions: vec![0] }];
        let partition = TopicPartition { topic: TopicId(7), partition: 0 };
        let offset = CommittedOffset { partition, offset: 5, leader_epoch: 1, metadata: String::new(), at_ms: 1 };
        let began = Instant::now();
        wait_for_topics(map, TENANT, &wanted, &[offset]).await;
        began.elapsed()
    }

    #[tokio::test]
    async fn offsets_of_a_topic_that_the_map_has_yet_to_name_wait_for_it() {
        let map = Arc::new(Map::default());
        let topic = TopicRecord {
            account: TENANT.account,
            cluster: TENANT.cluster,
            name: "t".to_owned(),
            id: TopicId(7),
            partitions: 1,
            replication_factor: 2,
            configs: BTreeMap::new(),
            version: 1,
        };
        let later = Arc::clone(&map);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let generation = Generation(1);
            later.apply(MapChanges {
                generation,
                revision: 2,
                topics: vec![(TopicId(7), Some(topic))],
                ..MapChanges::default()
            });
        });
        let took = wait(&map).await;
        assert!(took >= Duration::from_millis(90) && took < MAP_WAIT, "{took:?}");
        assert!(map.topic(TENANT, "t").is_some(), "it is known by then");
        assert!(wait(&map).await < Duration::from_millis(50), "what is known is not waited for");
        // A topic that is gone for good holds nobody up for longer.
        assert!(wait(&Map::default()).await >= MAP_WAIT);
    }
}
