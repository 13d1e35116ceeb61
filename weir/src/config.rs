//! Configuration in layers: flag beats environment beats file beats default.
//!
//! A file's keys are the long options of its service, with `-` or `_`. They become arguments in front of those
//! given, unless the environment has them; so one parser, and one set of checks, sees everything.

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory as _;

use crate::cli::{Cli, ConfigCommand, ConfigTarget};
use crate::output::Failure;

const SERVICES: &[&str] = &["up", "placement", "storage-node", "gateway"];

/// The arguments with those of `--config FILE` put in.
pub fn layered(arguments: Vec<String>) -> Result<Vec<OsString>, String> {
    let mut all: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    let Some(service) = arguments.get(1).filter(|name| SERVICES.contains(&name.as_str())) else { return Ok(all) };
    let at = arguments.iter().position(|argument| argument == "--config" || argument.starts_with("--config="));
    let Some(at) = at else { return Ok(all) };
    let file = match arguments[at].strip_prefix("--config=") {
        Some(file) => file.to_owned(),
        None => arguments.get(at + 1).cloned().ok_or("--config takes a file")?,
    };
    let from_file = read(service, Path::new(&file))?;
    let extra = from_file
        .into_iter()
        .filter(|(key, _)| std::env::var_os(env_name(service, key)).is_none())
        .flat_map(|(key, value)| argument(&key, &value));
    all.splice(2..2, extra);
    Ok(all)
}

/// `WEIR_<SERVICE>_<OPTION>`, but for options that several services have.
fn env_name(service: &str, key: &str) -> String {
    let command = Cli::command();
    let found = command.find_subcommand(service).into_iter().flat_map(|command| command.get_arguments());
    let own = found.filter(|argument| argument.get_long() == Some(key)).find_map(|argument| argument.get_env());
    let usual = || format!("WEIR_{service}_{key}").replace('-', "_").to_uppercase();
    own.and_then(|name| name.to_str()).map_or_else(usual, str::to_owned)
}

fn argument(key: &str, value: &str) -> Vec<OsString> {
    match value {
        // A switch: present or absent.
        "true" => vec![format!("--{key}").into()],
        "false" => Vec::new(),
        value => vec![format!("--{key}={value}").into()],
    }
}

/// The options of a service by their long names.
fn options(service: &str) -> Vec<String> {
    let command = Cli::command();
    let found = command.find_subcommand(service);
    let arguments = found.into_iter().flat_map(|command| command.get_arguments());
    arguments.filter_map(|a| a.get_long()).filter(|name| *name != "config").map(str::to_owned).collect()
}

/// Reads a file's keys and values; an unknown key names the nearest known one.
fn read(service: &str, file: &Path) -> Result<Vec<(String, String)>, String> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("`{name}`: {error}"))?;
    let table: toml::Table = text.parse().map_err(|error| format!("`{name}`: {error}"))?;
    let known = options(service);
    let mut values = Vec::new();
    for (key, value) in table {
        let option = key.replace('_', "-");
        if !known.contains(&option) {
            let nearest = known.iter().min_by_key(|other| distance(other, &option)).cloned().unwrap_or_default();
            return Err(format!("`{name}`: `{key}` is no option of {service}; the nearest is `{nearest}`"));
        }
        let value = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Array(items) => {
                let items = items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned));
                items.collect::<Vec<_>>().join(",")
            }
            other => return Err(format!("`{name}`: `{key}` cannot be a {}", other.type_str())),
        };
        values.push((option, value));
    }
    Ok(values)
}

/// Edit distance (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// `weir config check|show`.
pub fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(target) => {
            let (service, values) = target.read()?;
            let mut arguments: Vec<OsString> = vec!["weir".into(), service.clone().into()];
            arguments.extend(values.iter().flat_map(|(key, value)| argument(key, value)));
            // Options that have no default may come from elsewhere.
            if service == "storage-node" && !values.iter().any(|(key, _)| key == "az") {
                arguments.push("--az=unset".into());
            }
            let command = Cli::command();
            command.try_get_matches_from(arguments).map_err(|error| {
                let text = error.to_string();
                Failure::usage(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
            })?;
            println!("ok: {} options of {service}", values.len());
            Ok(())
        }
        ConfigCommand::Show(target) => {
            let (service, values) = target.read()?;
            let command = Cli::command();
            let Some(found) = command.find_subcommand(&service) else { return Ok(()) };
            for argument in found.get_arguments() {
                let Some(name) = argument.get_long().filter(|name| *name != "config") else { continue };
                let default = argument.get_default_values().first().map(|v| v.to_string_lossy().into_owned());
                let from_env = std::env::var(env_name(&service, name)).ok().map(|value| (value, "environment"));
                let from_file = values.iter().find(|(key, _)| key == name).map(|(_, value)| (value.clone(), "file"));
                match from_env.or(from_file).or(default.map(|value| (value, "default"))) {
                    Some((value, source)) => println!("{name} = {value:?}  # {source}"),
                    None => println!("# {name} is not set"),
                }
            }
            Ok(())
        }
    }
}

impl ConfigTarget {
    /// The service and what its file says. For a file alone: the service that knows most of its keys.
    fn read(&self) -> Result<(String, Vec<(String, String)>), Failure> {
        if SERVICES.contains(&self.service.as_str()) {
            let values = self.file.as_deref().map(|file| read(&self.service, file)).transpose();
            return Ok((self.service.clone(), values.map_err(Failure::usage)?.unwrap_or_default()));
        }
        let file = Path::new(&self.service);
        let keys: Vec<String> = std::fs::read_to_string(file)
            .ok()
            .and_then(|text| text.parse::<toml::Table>().ok())
            .map(|table| table.keys().map(|key| key.replace('_', "-")).collect())
            .unwrap_or_default();
        let known = |service: &&&str| {
            let options = options(service);
            // Of equals, the one with the fewest other options: the file says most about it.
            (keys.iter().filter(|key| options.contains(key)).count(), std::cmp::Reverse(options.len()))
        };
        let service = SERVICES.iter().max_by_key(known).map_or("up", |service| service);
        Ok((service.to_owned(), read(service, file).map_err(Failure::usage)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_first_and_flags_win() {
        let file = std::env::temp_dir().join(format!("weir-config-{}.toml", std::process::id()));
        std::fs::write(&file, "az = \"az-b\"\nplacement = [\"http://a\", \"http://b\"]\ninsecure_bind = true\n")
            .expect("a file");
        let arguments = ["weir", "storage-node", "--config", file.to_str().expect("a path"), "--az", "az-c"];
        let layered = layered(arguments.map(str::to_owned).to_vec()).expect("arguments");
        let cli = <Cli as clap::Parser>::try_parse_from(layered).expect("a command");
        let crate::cli::Command::StorageNode(options) = cli.command else { panic!("a storage node") };
        assert_eq!((options.az.as_str(), options.insecure_bind), ("az-c", true));
        assert_eq!(options.placement, ["http://a", "http://b"]);
        std::fs::write(&file, "listne = \"x\"\n").expect("a file");
        let error = read("gateway", &file).expect_err("an unknown key");
        assert!(error.contains("`listne`") && error.contains("nearest"), "{error}");
        std::fs::remove_file(file).expect("cleaned");
    }
}
