//! The bounded model check: exhaustive within bounds that CI has time for, and able to see what it is for.

use cores::{Rule, Rules};
use simulation::model::{Bounds, Report, check};

fn bounds(numbers: [u8; 6]) -> Bounds {
    let [failovers, crashes, disk_losses, cuts, records, sends] = numbers;
    Bounds { failovers, crashes, disk_losses, cuts, records, sends, states_max: 20_000_000 }
}

fn is_clean(numbers: [u8; 6]) {
    let Report { states, is_exhaustive, violation } = check(bounds(numbers), Rules::ALL);
    assert_eq!(violation, None, "{numbers:?}");
    assert!(is_exhaustive, "{numbers:?}: more than {states} states");
    println!("{numbers:?}: {states} states");
}

/// Two competing attempts, a crash and a lost disk.
#[test]
fn every_order_of_two_failovers_a_crash_and_a_loss_is_clean() {
    is_clean([2, 1, 1, 0, 1, 1]);
}

/// Failovers, crashes, disk losses, cuts, records, sends of each.
#[test]
fn every_order_of_events_within_the_bounds_is_clean() {
    [[2, 0, 1, 0, 2, 1], [1, 1, 1, 0, 2, 1], [2, 0, 0, 0, 1, 2], [1, 0, 1, 1, 1, 1], [1, 1, 0, 0, 2, 1]]
        .into_iter()
        .for_each(is_clean);
}

#[test]
fn the_rules_that_a_model_check_showed_to_be_necessary_are_missed() {
    let wide = [1, 1, 0, 0, 1, 1];
    let planted: &[(&[Rule], [u8; 6])] = &[
        (&[Rule::AckAfterBothFsyncs], wide),
        (&[Rule::FenceIsDurable], wide),
        (&[Rule::FenceBehindAppends], wide),
        (&[Rule::LeaderNeverResumes], wide),
        (&[Rule::ActivateAfterCas], wide),
        (&[Rule::KeepTail], wide),
        (&[Rule::DuplicateWaitsForCommit], [1, 1, 0, 0, 1, 2]),
        (&[Rule::CasOnRevision], [2, 0, 0, 0, 1, 1]),
        (&[Rule::IncarnationMustMatch, Rule::UnknownIsNotEmpty], [1, 0, 1, 0, 1, 1]),
    ];
    std::panic::set_hook(Box::new(|_| {}));
    let missed: Vec<_> = planted
        .iter()
        .filter(|(rules, numbers)| check(bounds(*numbers), Rules::without_all(rules)).violation.is_none())
        .map(|(rules, _)| rules)
        .collect();
    assert!(missed.is_empty(), "the model check did not notice the breach of {missed:?}");
}
