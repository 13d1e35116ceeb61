//! The load-bearing rules, each with a switch.
//!
//! The product always runs with [`Rules::ALL`]. The simulator breaks one rule at a time and must notice:
//! a rule whose absence nobody notices is not known to be needed, or not known to be tested.

macro_rules! rules {
    ($($(#[$doc:meta])* $variant:ident,)*) => {
        /// A rule that the simulator can break.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule { $($(#[$doc])* $variant,)* }

        impl Rule {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The rule of a name as printed by `Debug`.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|rule| format!("{rule:?}") == name)
            }
        }
    };
}

rules! {
    /// An append is acknowledged only once both members have fsynced it (invariant 1).
    AckAfterBothFsyncs,
    /// A fence is in the journal before it is answered (invariant 12).
    FenceIsDurable,
    /// A fence's length is taken after the fence's own fsync (invariant 13).
    FenceBehindAppends,
    /// A segment that this disk does not know has no length (invariant 18).
    UnknownIsNotEmpty,
    /// A disk that is not the one listed has no length (invariant 18).
    IncarnationMustMatch,
    /// A restarted leader never appends in its old epoch (invariant 14).
    LeaderNeverResumes,
    /// Partition records change by compare-and-swap (invariant 16).
    CasOnRevision,
    /// No append is accepted before the record names the segment (invariant 15).
    ActivateAfterCas,
    /// The survivor's tail above its watermark is carried to two disks before it is part of the log (invariant 9).
    CarryTail,
    /// What lies between the survivor's watermark and its end may have been acknowledged (invariant 2).
    KeepTail,
    /// A duplicate is answered only once its batch is below the watermark.
    DuplicateWaitsForCommit,
    /// Producer state is rolled back to the first free offset of the new segment.
    ForgetAboveSeal,
    /// A follower checks the chain hash, not the offset alone (invariant 7).
    CheckChain,
    /// A bad record below `durable_through` is damage, never a torn tail (invariant 27).
    DamageIsNotTorn,
    /// A bad record at or above `durable_through` is torn and is cut (invariant 27).
    TornIsCut,
    /// Batches of a producer's older epoch are refused (invariant 31).
    StaleEpochIsFenced,
    /// A leader whose follower stays away asks for another (invariant 38).
    AwayFollowerIsReplaced,
    /// After the first failed write nothing is acknowledged (invariant 28).
    StopAfterError,
    /// A copy that repair made stays until a record newer than the one it was made for does not list it (invariant 23).
    CopyIsKept,
    /// A copy is compared with its source before it counts (invariant 7).
    CopyIsChecked,
    /// A copy is listed only once it is whole (invariant 22).
    CopyIsWhole,
    /// What has one copy is copied again (invariant 40).
    OneCopyIsRepaired,
    /// The new copy is in another availability zone than the one that is left (invariant 19).
    CopyIsElsewhere,
    /// A pair is in two availability zones (invariant 19).
    PairInTwoZones,
    /// Each segment has an epoch above all before it (invariant 17).
    EpochRises,
    /// Where both members answer, the segment ends where the shorter one does (invariant 16).
    SealAtShorter,
    /// The append time of a partition never falls, whatever the clocks do (invariant 21).
    LogTimeNeverFalls,
    /// A duplicate is answered with the time of its first append.
    DuplicateHasItsTime,
    /// A leader that does not hold the segment before gets the producer state of one who does (invariant 30).
    ProducersTravel,
    /// A partition is parked only with two intact members (invariant 2).
    ParkNeedsBoth,
    /// What the record does not list is let go of (invariant 20).
    UnlistedIsDropped,
    /// When records are made anew: a segment with appends of its own is part of the chain, whatever is longer (invariant 15).
    OwnAppendsAreProof,
    /// When records are made anew: an opening counts only if it is whole on both disks (invariant 9).
    OpeningIsWhole,
    /// When records are made anew: an opening of which no record reached a disk may have been listed all the same
    /// (invariant 3).
    OpeningMayBeListed,
    /// Before records are made anew every disk is fenced for the new generation (invariant 12).
    InventoryFences,
    /// A record of a generation below the fence is not heeded: what it does not list is kept (invariant 23).
    OlderGenerationIsOver,
    /// What is cut of a torn write begins where the write before it ended, not where its own first record is (invariant 27).
    CutFromTheEndBefore,
    /// A copy is said to be kept once that is on disk (invariant 22).
    KeptIsOnDisk,
    /// Readers that wait hear of a seal (invariant 39).
    ReadersHearOfSeals,
    /// A leader that gives up answers all that wait, those too early for their turn among them (invariant 36).
    AllAreAnswered,
    /// An answer counts for the opening that it names (invariant 9).
    AnswerNamesItsOpening,
    /// Only segments that lie wholly below the log start leave the record (invariant 2).
    OnlyWholeSegmentsGo,
    /// What follows a chain hash that is not known is not known either (invariant 22).
    UnknownChainStays,
    /// A copy is committed as far as it is on disk, so that a flush in its middle knows its chain hash (invariant 22).
    CopyCommitsWhatIsDurable,
    /// What a coordinator answers is below the watermark first (invariants 33 and 34).
    AnswersWaitForTheLog,
    /// A member commits as of its generation (invariant 33).
    CommitsNameTheirGeneration,
    /// Each rebalance begins a generation of its own (invariant 34).
    GenerationRises,
    /// Who gets what is in the log before anyone is told (invariant 34).
    SharesAreLogged,
    /// A share is of one generation (invariant 34).
    SharesEndWithTheirGeneration,
    /// Who reads offsets is told what the log's leader knows, not who was its leader (invariant 33).
    OffsetsAreReadBehindAWrite,
    /// A new coordinator goes on with the members of the log.
    MembersSurviveFailover,
    /// What stands before a snapshot is given up once all of the snapshot is in the log (invariant 33).
    SnapshotIsWholeFirst,
}

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules(u64);

impl Rules {
    /// The only value outside the simulator.
    pub const ALL: Self = Self(u64::MAX);

    /// All but one: for the simulator.
    pub fn without(rule: Rule) -> Self {
        Self::without_all(&[rule])
    }

    /// All but some, for rules that guard one door together.
    pub fn without_all(rules: &[Rule]) -> Self {
        Self(!rules.iter().fold(0, |broken, rule| broken | 1 << *rule as u64))
    }

    pub fn holds(self, rule: Rule) -> bool {
        self.0 & (1 << rule as u64) != 0
    }
}

const _: () = assert!(Rule::ALL.len() <= 64);
