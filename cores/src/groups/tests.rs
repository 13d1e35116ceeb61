//! Kafka's group protocol, step by step.

use bytes::Bytes;
use types::limits::{GROUP_MEMBERS_MAX, OFFSETS_RETENTION_MS, OFFSETS_SNAPSHOT_ENTRIES};
use types::{TopicId, TopicPartition};
use wire::groups::{
    CommitOffsets, CommittedOffset, Described, ForgottenOffset, JoinGroup, Joined, MemberName, NamedBytes, SyncGroup,
};

use super::*;

const NO_DELAY: Settings = Settings { initial_delay_ms: 0, snapshot_entries: OFFSETS_SNAPSHOT_ENTRIES };
const PARTITION: TopicPartition = TopicPartition { topic: TopicId(1), partition: 0 };
const SESSION_MS: u64 = 10_000;

/// A coordinator whose writes are on two disks at once, unless held back.
struct Bench {
    coordinator: Coordinator,
    now: Now,
    log: Vec<GroupRecord>,
    answers: BTreeMap<Token, GroupReply>,
    next: Token,
    is_held: bool,
    held: u64,
    /// Where each write is in the log, and from where on the log is needed.
    places: BTreeMap<u64, usize>,
    needed: usize,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let now = Now { monotonic_ms: 1_000, wall_ms: 1_700_000_000_000 };
        let (coordinator, effects) = Coordinator::load(now, Log::default(), settings, Rules::ALL);
        let mut bench = Self {
            coordinator,
            now,
            log: Vec::new(),
            answers: BTreeMap::new(),
            next: 1,
            is_held: false,
            held: 0,
            places: BTreeMap::new(),
            needed: 0,
        };
        bench.carry_out(effects);
        bench
    }

    fn step(&mut self, input: Input) {
        let effects = self.coordinator.step(self.now, input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, mut effects: Vec<Effect>) {
        while !effects.is_empty() {
            let mut last = None;
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Write { write, records } => {
                        self.places.insert(write, self.log.len());
                        self.log.extend(records);
                        last = Some(write);
                    }
                    Effect::Forget { before } => self.needed = self.places[&before],
                    Effect::Answer { token, reply } => drop(self.answers.insert(token, reply)),
                    Effect::Wake { .. } => {}
                }
            }
            match last {
                Some(write) if self.is_held => self.held = write,
                Some(write) => effects = self.coordinator.step(self.now, Input::Written { write }),
                None => {}
            }
        }
    }

    fn ask(&mut self, request: GroupRequest) -> Token {
        let token = self.next;
        self.next += 1;
        self.step(Input::Ask { token, fresh: u128::from(token) << 96, request });
        token
    }

    fn pass(&mut self, ms: u64) {
        // As timers would: in small steps.
        for _ in 0..ms / 100 {
            self.now.monotonic_ms += 100;
            self.now.wall_ms += 100;
            self.step(Input::Tick);
        }
    }

    fn answer(&mut self, token: Token) -> Option<GroupReply> {
        self.answers.remove(&token)
    }

    fn told(&mut self, request: GroupRequest) -> GroupReply {
        let token = self.ask(request);
        self.answer(token).expect("an answer at once")
    }

    fn joined(&mut self, token: Token) -> Joined {
        match self.answer(token) {
            Some(GroupReply::Joined { joined }) => *joined,
            other => panic!("{other:?}"),
        }
    }

    fn new_id(&mut self, join: JoinGroup) -> String {
        match self.told(GroupRequest::Join { join: Box::new(join) }) {
            GroupReply::MemberId { member } => member,
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, join: JoinGroup) -> Token {
        self.ask(GroupRequest::Join { join: Box::new(join) })
    }

    fn sync(&mut self, joined: &Joined, assignments: &[(&str, &str)]) -> Token {
        let assignments = assignments.iter().map(|(id, share)| named(id, share)).collect();
        let name = MemberName { member: joined.member.clone(), instance: None };
        let sync = SyncGroup {
            group: "g".into(),
            name,
            generation: joined.generation,
            protocol_type: Some("consumer".into()),
            protocol: Some(joined.protocol.clone()),
            assignments,
        };
        self.ask(GroupRequest::Sync { sync: Box::new(sync) })
    }

    fn share(&mut self, token: Token) -> String {
        match self.answer(token) {
            Some(GroupReply::Synced { synced }) => String::from_utf8_lossy(&synced.assignment).into_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, joined: &Joined) -> GroupReply {
        let name = MemberName { member: joined.member.clone(), instance: None };
        self.told(GroupRequest::Heartbeat { group: "g".into(), name, generation: joined.generation })
    }

    fn commit(&mut self, member: &str, generation: i32, offset: i64) -> GroupReply {
        let name = MemberName { member: member.into(), instance: None };
        let offsets = vec![committed(PARTITION, offset, self.now.wall_ms)];
        let commit = CommitOffsets { group: "g".into(), name, generation, offsets };
        self.told(GroupRequest::Commit { commit: Box::new(commit) })
    }

    fn offset(&mut self) -> Option<i64> {
        match self.told(GroupRequest::Offsets { group: "g".into() }) {
            GroupReply::Offsets { offsets } => offsets.first().map(|offset| offset.offset),
            other => panic!("{other:?}"),
        }
    }

    fn described(&mut self) -> Described {
        match self.told(GroupRequest::Describe { group: "g".into() }) {
            GroupReply::Described { described } => *described,
            other => panic!("{other:?}"),
        }
    }

    /// Another node leads the log from here on.
    fn fail_over(&mut self) {
        let mut log = Log::default();
        self.log.iter().cloned().for_each(|record| log.apply(record));
        let (coordinator, effects) = Coordinator::load(self.now, log, NO_DELAY, Rules::ALL);
        self.coordinator = coordinator;
        self.answers.clear();
        self.carry_out(effects);
    }

    /// One member, stable, with a share.
    fn with_one(settings: Settings) -> (Self, Joined) {
        let mut bench = Self::new(settings);
        let token = bench.join(joining("", "a"));
        let joined = bench.joined(token);
        let token = bench.sync(&joined, &[(&joined.member, "all")]);
        assert_eq!(bench.share(token), "all");
        (bench, joined)
    }
}

fn named(name: &str, bytes: &str) -> NamedBytes {
    NamedBytes { name: name.into(), bytes: Bytes::copy_from_slice(bytes.as_bytes()) }
}

fn committed(partition: TopicPartition, offset: i64, at_ms: i64) -> CommittedOffset {
    CommittedOffset { partition, offset, leader_epoch: 3, metadata: "m".into(), at_ms }
}

fn joining(member: &str, client: &str) -> JoinGroup {
    JoinGroup {
        group: "g".into(),
        name: MemberName { member: member.into(), instance: None },
        client_id: client.into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: SESSION_MS as i32,
        rebalance_timeout_ms: 30_000,
        protocol_type: "consumer".into(),
        protocols: vec![named("range", "topics"), named("sticky", "topics")],
        needs_known_id: false,
        may_skip_assignment: false,
    }
}

fn refused(code: ErrorCode) -> GroupReply {
    GroupReply::Refused { code }
}

#[test]
fn a_second_member_brings_a_new_generation_and_both_share() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    assert_eq!((first.generation, &first.leader, &first.protocol[..]), (1, &first.member, "range"));
    assert_eq!(first.members.len(), 1);
    let second = bench.join(JoinGroup { protocols: vec![named("sticky", "t")], ..joining("", "b") });
    assert_eq!(bench.answer(second), None, "the first is to join again");
    assert_eq!(bench.heartbeat(&first), refused(ErrorCode::RebalanceInProgress));
    assert_eq!(bench.commit(&first.member, 1, 5), GroupReply::Done {}, "it may commit before it joins again");
    let again = bench.join(joining(&first.member, "a"));
    let (first, second) = (bench.joined(again), bench.joined(second));
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!((&first.protocol[..], &second.protocol[..]), ("sticky", "sticky"), "what both have");
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    assert_eq!(bench.heartbeat(&second), GroupReply::Done {});
    let waits = bench.sync(&second, &[]);
    assert_eq!(bench.answer(waits), None, "the leader has not assigned");
    assert_eq!(bench.commit(&first.member, 2, 6), refused(ErrorCode::RebalanceInProgress));
    let leads = bench.sync(&first, &[(&first.member, "one"), (&second.member, "two")]);
    assert_eq!((bench.share(leads), bench.share(waits)), ("one".into(), "two".into()));
    assert_eq!(bench.commit(&first.member, 1, 7), refused(ErrorCode::IllegalGeneration));
    assert_eq!(bench.commit("nobody", 2, 7), refused(ErrorCode::UnknownMember));
    assert_eq!(bench.commit(&second.member, 2, 7), GroupReply::Done {});
    assert_eq!(bench.offset(), Some(7));
    let late = bench.sync(&second, &[]);
    assert_eq!(bench.share(late), "two", "the answer may have been lost");
    let described = bench.described();
    assert_eq!((&described.state[..], &described.protocol[..], described.members.len()), ("Stable", "sticky", 2));
    assert_eq!(described.members[0].client_host, "/127.0.0.1");
}

#[test]
fn a_new_id_is_told_first_and_blocks_nothing_for_ever() {
    let mut bench = Bench::new(NO_DELAY);
    let asking = || JoinGroup { needs_known_id: true, ..joining("", "a") };
    let id = bench.new_id(asking());
    assert!(id.starts_with("a-") && id.len() == 2 + 36, "{id}");
    let lost = bench.new_id(asking());
    let token = bench.join(joining(&id, "a"));
    assert_eq!(bench.answer(token), None, "another id was promised");
    bench.pass(SESSION_MS);
    let joined = bench.joined(token);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(
        bench.told(GroupRequest::Join { join: Box::new(joining(&lost, "a")) }),
        refused(ErrorCode::UnknownMember)
    );
    let bad = JoinGroup { session_timeout_ms: 10, ..joining("", "a") };
    assert_eq!(bench.told(GroupRequest::Join { join: Box::new(bad) }), refused(ErrorCode::InvalidSessionTimeout));
    let other = JoinGroup { protocol_type: "connect".into(), ..joining("", "a") };
    assert_eq!(bench.told(GroupRequest::Join { join: Box::new(other) }), refused(ErrorCode::InconsistentProtocol));
    let other = JoinGroup { protocols: vec![named("none of theirs", "")], ..joining("", "a") };
    assert_eq!(bench.told(GroupRequest::Join { join: Box::new(other) }), refused(ErrorCode::InconsistentProtocol));
}

#[test]
fn the_silent_are_out_and_the_others_go_on() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    let second = bench.join(joining("", "b"));
    let again = bench.join(joining(&first.member, "a"));
    let (first, second) = (bench.joined(again), bench.joined(second));
    bench.sync(&second, &[]);
    bench.sync(&first, &[(&first.member, "one"), (&second.member, "two")]);
    for _ in 0..3 {
        bench.pass(SESSION_MS / 2);
        bench.heartbeat(&first);
    }
    // The second said nothing for a session: its share is another's.
    assert_eq!(bench.heartbeat(&first), refused(ErrorCode::RebalanceInProgress));
    assert_eq!(bench.heartbeat(&second), refused(ErrorCode::UnknownMember));
    let again = bench.join(joining(&first.member, "a"));
    let first = bench.joined(again);
    assert_eq!((first.generation, first.members.len()), (3, 1));
    bench.sync(&first, &[(&first.member, "all")]);
    // Nobody is left.
    bench.pass(SESSION_MS);
    let described = bench.described();
    assert_eq!((&described.state[..], described.members.len()), ("Empty", 0));
    bench.pass(OFFSETS_EXPIRE_EVERY_MS);
    let listed = bench.told(GroupRequest::List {});
    assert!(matches!(&listed, GroupReply::Listed { groups } if groups.is_empty()), "no offset, no member: {listed:?}");
}

#[test]
fn a_rebalance_ends_without_those_who_stay_away() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    let second = bench.join(joining("", "b"));
    // The first lives, and does not join again: its application is busy for longer than it said.
    for _ in 0..6 {
        bench.pass(5_000);
        bench.heartbeat(&first);
    }
    let second = bench.joined(second);
    assert_eq!((second.generation, second.members.len()), (2, 1));
    assert_eq!(bench.heartbeat(&first), refused(ErrorCode::UnknownMember));
    // The new leader never assigns: it is out, and the group empty.
    let third = bench.join(joining("", "c"));
    for _ in 0..7 {
        bench.pass(5_000);
        bench.heartbeat(&second);
    }
    let third = bench.joined(third);
    assert_eq!(third.members.len(), 1);
    assert_eq!(bench.heartbeat(&second), refused(ErrorCode::UnknownMember));
}

#[test]
fn a_static_member_comes_back_to_its_share_and_fences_its_earlier_self() {
    let (mut bench, other) = Bench::with_one(NO_DELAY);
    let fixed = |member: &str| JoinGroup {
        name: MemberName { member: member.into(), instance: Some("i".into()) },
        may_skip_assignment: true,
        ..joining(member, "s")
    };
    let token = bench.join(fixed(""));
    let again = bench.join(joining(&other.member, "a"));
    let (other, before) = (bench.joined(again), bench.joined(token));
    let waits = bench.sync(&before, &[]);
    assert_eq!(bench.answer(waits), None);
    bench.sync(&other, &[(&other.member, "one"), (&before.member, "two")]);
    // Started anew: no rebalance, a new id, the same share.
    let token = bench.join(fixed(""));
    let after = bench.joined(token);
    assert_eq!(after.generation, before.generation);
    assert_ne!(after.member, before.member);
    assert_eq!(bench.heartbeat(&other), GroupReply::Done {});
    let share = bench.sync(&after, &[]);
    assert_eq!(bench.share(share), "two");
    let old = MemberName { member: before.member, instance: Some("i".into()) };
    let beat = GroupRequest::Heartbeat { group: "g".into(), name: old, generation: before.generation };
    assert_eq!(bench.told(beat.clone()), refused(ErrorCode::FencedInstance));
    bench.fail_over();
    assert_eq!(bench.told(beat), refused(ErrorCode::FencedInstance), "that is in the log");
    // An operator removes it by its instance.
    let names = vec![MemberName { member: String::new(), instance: Some("i".into()) }];
    let left = bench.told(GroupRequest::Leave { group: "g".into(), names });
    assert!(matches!(&left, GroupReply::Left { members } if members[0].error.is_none()), "{left:?}");
    assert_eq!(bench.heartbeat(&other), refused(ErrorCode::RebalanceInProgress));
}

#[test]
fn who_leaves_makes_room_at_once() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    let second = bench.join(joining("", "b"));
    let names = vec![MemberName { member: first.member.clone(), instance: None }];
    let left = bench.told(GroupRequest::Leave { group: "g".into(), names: names.clone() });
    assert!(matches!(left, GroupReply::Left { .. }));
    let second = bench.joined(second);
    assert_eq!((&second.leader, second.members.len()), (&second.member, 1));
    let left = bench.told(GroupRequest::Leave { group: "g".into(), names });
    assert!(matches!(&left, GroupReply::Left { members } if members[0].error == Some(ErrorCode::UnknownMember)));
}

#[test]
fn a_new_group_waits_for_its_members() {
    let mut bench = Bench::new(Settings { initial_delay_ms: 3_000, ..NO_DELAY });
    let first = bench.join(joining("", "a"));
    bench.pass(2_000);
    let second = bench.join(joining("", "b"));
    bench.pass(2_000);
    assert_eq!(bench.answer(first), None, "another came: it waits on");
    bench.pass(1_000);
    let (first, second) = (bench.joined(first), bench.joined(second));
    assert_eq!((first.generation, second.generation, first.members.len()), (1, 1, 2));
}

#[test]
fn nothing_is_told_before_it_is_on_two_disks_and_all_of_it_survives() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    assert_eq!(bench.commit(&first.member, 1, 5), GroupReply::Done {});
    bench.is_held = true;
    let name = MemberName { member: first.member.clone(), instance: None };
    let offsets = vec![committed(PARTITION, 6, bench.now.wall_ms)];
    let commit = CommitOffsets { group: "g".into(), name: name.clone(), generation: 1, offsets };
    let written = bench.log.len();
    let token = bench.ask(GroupRequest::Commit { commit: Box::new(commit) });
    let beat = bench.ask(GroupRequest::Heartbeat { group: "g".into(), name, generation: 1 });
    let read = bench.ask(GroupRequest::Offsets { group: "g".into() });
    assert_eq!((bench.answer(token), bench.answer(beat), bench.answer(read)), (None, None, None));
    // The log never took it.
    bench.log.truncate(written);
    bench.is_held = false;
    bench.fail_over();
    assert_eq!(bench.offset(), Some(5));
    assert_eq!(bench.heartbeat(&first), GroupReply::Done {}, "the member is known, with a full session");
    let share = bench.sync(&first, &[]);
    assert_eq!(bench.share(share), "all");
    assert_eq!(bench.commit(&first.member, 1, 8), GroupReply::Done {});
}

#[test]
fn a_snapshot_stands_for_all_before_it_and_a_torn_one_for_nothing() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    for offset in 0..(OFFSETS_SNAPSHOT_ENTRIES as i64 + 10) {
        bench.commit(&first.member, 1, offset);
    }
    let begins = bench.log.iter().position(|record| *record == GroupRecord::SnapshotBegins {}).expect("a snapshot");
    let ends = bench.log.iter().position(|record| *record == GroupRecord::SnapshotEnds {}).expect("its end");
    let (whole, offset) = (bench.log.clone(), bench.offset());
    assert_eq!(bench.needed, begins, "what stands before it may go");
    bench.log.drain(..begins);
    bench.fail_over();
    assert_eq!((bench.offset(), bench.described().members.len()), (offset, 1));
    bench.log = whole[..ends].to_vec();
    bench.fail_over();
    let commits = whole[..begins].iter().filter(|record| matches!(record, GroupRecord::Offsets { .. })).count();
    assert_eq!(bench.offset(), Some(commits as i64 - 1), "by what stands before it");
    assert_eq!(bench.heartbeat(&first), GroupReply::Done {});
}

#[test]
fn offsets_without_members_are_kept_for_a_week() {
    let mut bench = Bench::new(NO_DELAY);
    assert_eq!(bench.offset(), None);
    assert_eq!(bench.commit("", -1, 5), GroupReply::Done {}, "by hand");
    assert_eq!(bench.commit("somebody", 1, 5), refused(ErrorCode::UnknownMember));
    bench.now.wall_ms += OFFSETS_RETENTION_MS;
    bench.pass(OFFSETS_EXPIRE_EVERY_MS);
    assert_eq!(bench.offset(), None);
    assert_eq!(bench.told(GroupRequest::Describe { group: "g".into() }), refused(ErrorCode::GroupNotFound));
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    bench.commit(&first.member, 1, 5);
    assert_eq!(bench.commit("", -1, 9), refused(ErrorCode::UnknownMember), "not beside members");
    let long = CommittedOffset { metadata: "m".repeat(5_000), ..committed(PARTITION, 1, 1) };
    let name = MemberName { member: first.member.clone(), instance: None };
    let commit = CommitOffsets { group: "g".into(), name, generation: 1, offsets: vec![long] };
    let reply = bench.told(GroupRequest::Commit { commit: Box::new(commit) });
    assert_eq!(reply, refused(ErrorCode::OffsetMetadataTooLarge));
}

#[test]
fn offsets_of_what_members_read_are_not_forgotten() {
    let mut bench = Bench::new(NO_DELAY);
    let subscription = "\0\x01\0\0\0\x01\0\x01t\u{0}\0\0\0";
    let token = bench.join(JoinGroup { protocols: vec![named("range", subscription)], ..joining("", "a") });
    let first = bench.joined(token);
    bench.sync(&first, &[]);
    bench.commit(&first.member, 1, 5);
    let other = TopicPartition { topic: TopicId(2), partition: 0 };
    let forget = |topic: &str, partition| ForgottenOffset { topic: topic.into(), partition };
    let offsets = vec![forget("t", PARTITION), forget("u", other)];
    let forgotten = bench.told(GroupRequest::Forget { group: "g".into(), offsets });
    assert_eq!(forgotten, GroupReply::Forgotten { errors: vec![Some(ErrorCode::GroupSubscribed), None] });
    assert_eq!(bench.told(GroupRequest::Delete { group: "g".into() }), refused(ErrorCode::GroupNotEmpty));
    bench.pass(SESSION_MS);
    let offsets = vec![forget("t", PARTITION)];
    let forgotten = bench.told(GroupRequest::Forget { group: "g".into(), offsets });
    assert_eq!(forgotten, GroupReply::Forgotten { errors: vec![None] });
    bench.commit("", -1, 7);
    assert_eq!(bench.told(GroupRequest::Delete { group: "g".into() }), GroupReply::Done {});
    bench.fail_over();
    assert_eq!(bench.offset(), None);
}

#[test]
fn a_deleted_group_of_offsets_alone_stays_deleted() {
    let mut bench = Bench::new(NO_DELAY);
    bench.commit("", -1, 5);
    assert_eq!(bench.told(GroupRequest::Delete { group: "g".into() }), GroupReply::Done {});
    bench.fail_over();
    assert_eq!(bench.offset(), None);
}

#[test]
fn a_week_counts_from_when_the_last_member_left() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    bench.commit(&first.member, 1, 5);
    // In use for longer than that; no tick comes in between, so that nobody's session ends.
    bench.now.wall_ms += 2 * OFFSETS_RETENTION_MS;
    let names = vec![MemberName { member: first.member.clone(), instance: None }];
    bench.told(GroupRequest::Leave { group: "g".into(), names });
    bench.now.wall_ms += OFFSETS_RETENTION_MS - 2 * OFFSETS_EXPIRE_EVERY_MS as i64;
    bench.pass(OFFSETS_EXPIRE_EVERY_MS);
    assert_eq!(bench.offset(), Some(5));
    bench.pass(2 * OFFSETS_EXPIRE_EVERY_MS);
    assert_eq!(bench.offset(), None);
}

#[test]
fn what_a_tick_decided_is_not_told_before_it_is_written() {
    let (mut bench, _) = Bench::with_one(NO_DELAY);
    bench.is_held = true;
    bench.pass(SESSION_MS + 100);
    let token = bench.ask(GroupRequest::Describe { group: "g".into() });
    assert_eq!(bench.answer(token), None, "that the group is empty is on its way to the log");
    let write = bench.held;
    bench.step(Input::Written { write });
    let Some(GroupReply::Described { described }) = bench.answer(token) else { panic!("it is answered now") };
    assert_eq!(described.members.len(), 0);
}

/// A coordinator that was loaded tells in its snapshot what it has not changed.
#[test]
fn a_snapshot_after_a_failover_has_the_members_of_before() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    bench.commit(&first.member, 1, 5);
    bench.fail_over();
    bench.log = bench.coordinator.snapshot();
    bench.fail_over();
    assert_eq!((bench.heartbeat(&first), bench.offset()), (GroupReply::Done {}, Some(5)));
}

#[test]
fn whoever_was_only_awaited_and_leaves_holds_nobody_up() {
    let mut bench = Bench::new(NO_DELAY);
    let asking = || JoinGroup { needs_known_id: true, ..joining("", "c") };
    let (first, awaited) = (bench.new_id(asking()), bench.new_id(asking()));
    let token = bench.join(joining(&first, "c"));
    assert_eq!(bench.answer(token), None, "another is awaited");
    let names = vec![MemberName { member: awaited, instance: None }];
    bench.told(GroupRequest::Leave { group: "g".into(), names });
    assert_eq!(bench.joined(token).members.len(), 1);
}

#[test]
fn a_static_member_whose_metadata_says_more_comes_back_without_a_rebalance() {
    let mut bench = Bench::new(NO_DELAY);
    let fixed = |metadata: &str| JoinGroup {
        name: MemberName { member: String::new(), instance: Some("i".into()) },
        protocols: vec![named("range", metadata)],
        ..joining("", "s")
    };
    let token = bench.join(fixed("generation 5"));
    let before = bench.joined(token);
    bench.sync(&before, &[(&before.member, "all")]);
    let token = bench.join(fixed("generation -1"));
    let after = bench.joined(token);
    assert_eq!(after.generation, before.generation);
    // One that assigns by hand commits without a generation, and names its instance all the same.
    let name = MemberName { member: String::new(), instance: Some("other".into()) };
    let offsets = vec![committed(PARTITION, 6, bench.now.wall_ms)];
    let commit = CommitOffsets { group: "by hand".into(), name, generation: -1, offsets };
    assert_eq!(bench.told(GroupRequest::Commit { commit: Box::new(commit) }), GroupReply::Done {});
}

#[test]
fn a_group_is_one_record_of_its_log_and_no_larger() {
    let mut bench = Bench::new(NO_DELAY);
    let large = "m".repeat(types::limits::GROUP_BYTES_MAX / 2);
    let member = || JoinGroup { protocols: vec![named("range", &large)], ..joining("", "a") };
    bench.join(member());
    let reply = bench.told(GroupRequest::Join { join: Box::new(member()) });
    assert_eq!(reply, refused(ErrorCode::GroupFull));
    let many = (0..1_000).map(|number| named(&number.to_string(), "")).collect();
    let reply = bench.told(GroupRequest::Join { join: Box::new(JoinGroup { protocols: many, ..joining("", "b") }) });
    assert_eq!(reply, refused(ErrorCode::InconsistentProtocol));
}

/// A coordinator that ended in the middle of a snapshot, in a leadership that went on: its successor's records count.
#[test]
fn what_follows_a_torn_snapshot_in_the_same_segment_counts() {
    let (mut bench, first) = Bench::with_one(NO_DELAY);
    bench.commit(&first.member, 1, 5);
    bench.log.push(GroupRecord::SnapshotBegins {});
    bench.fail_over();
    bench.commit(&first.member, 1, 6);
    bench.fail_over();
    assert_eq!(bench.offset(), Some(6));
    assert_eq!(bench.heartbeat(&first), GroupReply::Done {});
}

#[test]
fn a_group_has_a_bounded_number_of_members_and_of_those_who_were_asked_to_come_again() {
    let mut bench = Bench::new(NO_DELAY);
    let asking = || JoinGroup { needs_known_id: true, ..joining("", "a") };
    let first = bench.new_id(asking());
    for _ in 1..GROUP_MEMBERS_MAX {
        bench.new_id(asking());
    }
    for join in [asking(), joining("", "b")] {
        let told = bench.told(GroupRequest::Join { join: Box::new(join) });
        assert!(matches!(told, GroupReply::Refused { code: ErrorCode::GroupFull }), "{told:?}");
    }
    // Who was promised a place has it; those who do not come leave theirs to others.
    let token = bench.join(joining(&first, "a"));
    bench.pass(SESSION_MS);
    assert_eq!(bench.joined(token).member, first);
    bench.new_id(asking());
}
