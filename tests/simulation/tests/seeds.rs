//! Seeds in CI: deterministic, clean, and each planted bug found.

use std::sync::{Mutex, PoisonError};

use cores::{Rule, Rules};
use simulation::{Profile, Scenario, run};

const CLEAN: Profile = profile(Rules::ALL, Scenario::Mixed);

const fn profile(rules: Rules, scenario: Scenario) -> Profile {
    Profile { rules, scenario, is_verbose: false }
}

/// Rules whose breach alone changes nothing: each guards a door that another rule guards too. `docs/simulation.md`
/// says which, and where the breach of both is found. The list only shrinks.
const GUARDED_TWICE: &[Rule] = &[
    Rule::IncarnationMustMatch,
    Rule::CheckChain,
    Rule::OwnAppendsAreProof,
    Rule::UnknownChainStays,
    Rule::CopyCommitsWhatIsDurable,
];

/// Where the breach of a rule shows.
fn scenario_of(rule: Rule) -> Scenario {
    match rule {
        Rule::UnknownIsNotEmpty => Scenario::LostOpening,
        Rule::AwayFollowerIsReplaced => Scenario::OneAway,
        Rule::DamageIsNotTorn | Rule::CopyIsKept | Rule::ProducersTravel => Scenario::Rotten,
        Rule::ParkNeedsBoth => Scenario::Parking,
        Rule::CutFromTheEndBefore => Scenario::Torn,
        Rule::OnlyWholeSegmentsGo => Scenario::Trimmed,
        Rule::OpeningIsWhole
        | Rule::OpeningMayBeListed
        | Rule::InventoryFences
        | Rule::OlderGenerationIsOver
        | Rule::AllAreAnswered => Scenario::Restore,
        Rule::AnswersWaitForTheLog
        | Rule::CommitsNameTheirGeneration
        | Rule::GenerationRises
        | Rule::SharesAreLogged
        | Rule::SharesEndWithTheirGeneration
        | Rule::OffsetsAreReadBehindAWrite
        | Rule::SnapshotIsWholeFirst
        | Rule::MembersSurviveFailover => Scenario::Groups,
        _ => Scenario::Mixed,
    }
}

/// Panics of the cores are findings here: they are not printed. One at a time, since the hook is the process's.
fn first_found(rules: &[Rule], scenario: Scenario) -> Option<u64> {
    static HOOK: Mutex<()> = Mutex::new(());
    let _one = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let profile = profile(Rules::without_all(rules), scenario);
    let found = (0..50).find(|seed| run(*seed, profile).violation.is_some());
    std::panic::set_hook(usual);
    found
}

#[test]
fn a_seed_gives_the_same_trace_twice() {
    for seed in 0..10 {
        assert_eq!(run(seed, CLEAN), run(seed, CLEAN), "seed {seed}");
    }
}

#[test]
fn five_hundred_seeds_are_clean() {
    let mut acked = 0;
    for seed in 0..500 {
        let outcome = run(seed, CLEAN);
        assert_eq!(
            outcome.violation, None,
            "seed {seed}: cargo run --release -p simulation -- --seeds 1 --seed {seed}"
        );
        acked += outcome.acked;
    }
    assert!(acked > 10_000, "only {acked} batches were acknowledged: the simulator does too little");
}

#[test]
fn every_planted_bug_is_found_within_fifty_seeds() {
    let mut missed = Vec::new();
    for rule in Rule::ALL.iter().filter(|rule| !GUARDED_TWICE.contains(rule)) {
        match first_found(&[*rule], scenario_of(*rule)) {
            Some(seed) => println!("{rule:?}: seed {seed}"),
            None => missed.push(rule),
        }
    }
    assert!(missed.is_empty(), "nobody noticed the breach of {missed:?}");
    assert!(Rule::ALL.len() >= 50, "planted bugs do not become fewer");
}

/// A new disk knows nothing of the segment, and its incarnation is not the listed one: either is enough.
#[test]
fn a_lost_disk_has_no_length_for_two_reasons() {
    let both = first_found(&[Rule::IncarnationMustMatch, Rule::UnknownIsNotEmpty], Scenario::LostDisk);
    let one = first_found(&[Rule::UnknownIsNotEmpty], Scenario::LostDisk);
    assert!(both.is_some(), "nobody noticed that a new disk counts as an empty segment");
    assert_eq!(one, None, "the incarnation alone keeps a new disk out");
}

/// Chaos found it: a node that was killed in the middle of a copy, just after a flush, held a wrong chain hash of what it
/// copied, and nobody could copy it from there ever after.
#[test]
fn a_flush_in_the_middle_of_a_copy_is_harmless_for_two_reasons() {
    let both = [Rule::UnknownChainStays, Rule::CopyCommitsWhatIsDurable];
    assert!(first_found(&both, Scenario::Rotten).is_some(), "nobody noticed a chain hash made of nothing");
}

#[test]
fn the_scenarios_are_clean_too() {
    let all = [
        Scenario::LostOpening,
        Scenario::LostDisk,
        Scenario::OneAway,
        Scenario::Parking,
        Scenario::Rotten,
        Scenario::Torn,
        Scenario::Restore,
        Scenario::Trimmed,
        Scenario::Groups,
    ];
    for scenario in all {
        for seed in 0..50 {
            assert_eq!(run(seed, profile(Rules::ALL, scenario)).violation, None, "seed {seed}, {scenario:?}");
        }
    }
}
