//! Holds the tree to its own rules: edges, purity, module texts, file lengths, names in the documents.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of product code in one file, without its tests.
const LINES_MAX: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn tracked(ending: &str) -> Vec<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(root()).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let out = command.output().expect("git");
    let text = String::from_utf8(out.stdout).expect("names are UTF-8");
    text.lines().filter(|name| name.ends_with(ending) && root().join(name).exists()).map(str::to_owned).collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn is_test(name: &str) -> bool {
    name.starts_with("tests/") || name.ends_with("/tests.rs") || name.contains("/tests/")
}

/// Edges point down only; a new one needs an ADR and a line here.
const EDGES: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("wire", &["types"]),
    ("cores", &["types", "wire"]),
    ("service", &["types", "wire"]),
    ("gateway", &["identity", "policies", "quotas", "service", "types", "wire"]),
    ("storage-node", &["cores", "identity", "service", "types", "wire"]),
    ("placement", &["cores", "identity", "quotas", "service", "types", "wire"]),
    ("policies", &[]),
    ("identity", &[]),
    ("quotas", &[]),
    ("weir", &["gateway", "identity", "placement", "policies", "service", "storage-node", "types", "wire"]),
    ("tests", &["identity", "types", "wire"]),
    ("simulation", &["cores", "types", "wire"]),
];

/// Crates without I/O, clock, randomness or async runtime.
const PURE: &[&str] = &["types", "wire", "cores", "policies", "identity", "quotas"];

#[test]
fn dependencies_point_down() {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    assert_eq!(members, EDGES.iter().map(|(name, _)| *name).collect());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let (_, allowed) = EDGES.iter().find(|(known, _)| *known == name).expect("listed above");
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let to = dependency["name"].as_str().expect("a name");
            if members.contains(to) {
                assert!(allowed.contains(&to), "{name} must not depend on {to}");
            }
            let is_normal = dependency["kind"].is_null();
            let is_impure = ["tokio", "hyper", "axum", "getrandom", "rand", "libc", "redb"].contains(&to);
            assert!(!(PURE.contains(&name) && is_normal && is_impure), "{name} is pure and must not depend on {to}");
        }
    }
}

#[test]
fn pure_crates_know_no_clock_file_or_thread() {
    for name in tracked(".rs").iter().filter(|name| PURE.contains(&name.split('/').next().unwrap_or_default())) {
        for banned in
            ["std::fs", "std::net", "std::thread", "std::time::Instant", "SystemTime", "std::process", "HashMap"]
        {
            assert!(!read(name).contains(banned), "{name} mentions {banned}");
        }
    }
}

#[test]
fn every_module_says_what_it_is_for() {
    for name in tracked(".rs") {
        let text = read(&name);
        assert!(text.starts_with("//!"), "{name} does not begin with //!");
    }
}

#[test]
fn files_stay_short() {
    for name in tracked(".rs").iter().filter(|name| !is_test(name)) {
        let text = read(name);
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines; {LINES_MAX} at most");
    }
}

#[test]
fn nothing_is_left_for_later_in_code() {
    for name in tracked(".rs").iter().filter(|name| *name != "tests/tests/tidy.rs") {
        for banned in ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "FIXME", "XXX"] {
            assert!(!read(name).contains(banned), "{name} has {banned}");
        }
    }
}

/// Where the compiler's promises are ours to keep, and how often: calls of the C library, and blocks that lie aligned for a disk. What
/// is more is talked about first.
const UNSAFE: &[(&str, usize)] =
    &[("storage-node/src/journal/direct.rs", 2), ("weir/src/bench/cost.rs", 1), ("weir/src/main.rs", 1)];

#[test]
fn unsafe_code_is_where_it_is_known_to_be() {
    let product = tracked(".rs").into_iter().filter(|name| !name.starts_with("tests/") && !name.starts_with("fuzz/"));
    let count = |name: &String| read(name).matches("unsafe {").count() + read(name).matches("unsafe fn").count();
    let found: Vec<(String, usize)> =
        product.map(|name| (name.clone(), count(&name))).filter(|(_, n)| *n > 0).collect();
    let known: Vec<(String, usize)> = UNSAFE.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    assert_eq!(found, known);
}

/// Texts between backticks that look like paths of this tree.
fn paths_in(text: &str) -> Vec<String> {
    let parts = text.split('`').skip(1).step_by(2);
    let looks = |part: &&str| {
        let first = part.split('/').next().unwrap_or_default();
        let folders = [
            "types",
            "wire",
            "cores",
            "service",
            "gateway",
            "storage-node",
            "placement",
            "weir",
            "tests",
            "docs",
            "fuzz",
        ];
        part.contains('/') && folders.contains(&first) && !part.contains([' ', '*', '{', '<', '='])
    };
    parts.filter(looks).map(|part| part.split("::").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn documents_name_only_what_exists() {
    for name in tracked(".md") {
        for path in paths_in(&read(&name)) {
            assert!(root().join(&path).exists(), "{name} names `{path}`, which does not exist");
        }
    }
}

#[test]
fn functions_named_in_the_architecture_exist() {
    let text = read("ARCHITECTURE.md");
    for part in text.split('`').skip(1).step_by(2).filter(|part| part.contains(".rs::")) {
        let (file, function) = part.split_once("::").expect("just seen");
        let source = read(file);
        let function = function.rsplit("::").next().expect("a name");
        assert!(source.contains(&format!("fn {function}")), "{file} has no fn {function}");
    }
}

#[test]
fn adr_numbers_are_used_once() {
    let names = tracked(".md").into_iter().filter(|name| name.starts_with("docs/adr/"));
    let numbers: Vec<String> = names.map(|name| name["docs/adr/".len()..].chars().take(4).collect()).collect();
    let unique: BTreeSet<&String> = numbers.iter().collect();
    assert_eq!(unique.len(), numbers.len(), "{numbers:?}");
}

#[test]
fn each_figure_names_its_machine_command_and_spread() {
    let text = read("docs/benchmarks.md");
    for row in
        text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| figure") && !line.starts_with("|---"))
    {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() >= 6 && cells.iter().all(|cell| !cell.is_empty()), "incomplete row: {row}");
        assert!(cells[2].contains('['), "no spread: {row}");
    }
}
