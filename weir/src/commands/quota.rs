//! `weir quota`.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::identity::account;
use super::{list, text};
use crate::cli::{QuotaCommand, QuotaOfOptions};
use crate::client::{Client, part};
use crate::output::{Failure, print};

pub async fn run(command: QuotaCommand) -> Result<(), Failure> {
    match command {
        QuotaCommand::Show { of } => show(&of).await,
        QuotaCommand::Set { quota_profile, default: _, of } => {
            let (client, path) = at(&of).await?;
            client.json(Method::PUT, &path, Some(&json!({ "profile": quota_profile }))).await.map(drop)
        }
        QuotaCommand::Define { name, limits, account: of, target } => {
            let mut body = Map::new();
            for limit in &limits {
                let (name, value) = parse(limit)?;
                if body.insert(name.clone(), value).is_some() {
                    return Err(Failure::usage(format!("--limit {name} is given twice")));
                }
            }
            if name.is_empty() {
                return Err(Failure::usage("a quota profile has a name"));
            }
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/quota-profiles/{}", account(&client, &of).await?, part(&name));
            client.json(Method::PUT, &path, Some(&body.into())).await.map(drop)
        }
        QuotaCommand::Profiles { account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/quota-profiles", account(&client, &of).await?);
            let all = client.json(Method::GET, &path, None).await?;
            let row = |profile: &Value| {
                let limits = profile["limits"].as_object().into_iter().flatten();
                let limits: Vec<String> = limits.map(|(name, limit)| format!("{name}={}", text(limit))).collect();
                let limits = if limits.is_empty() { "none".to_owned() } else { limits.join(" ") };
                vec![text(&profile["name"]), text(&profile["account"]), limits]
            };
            print(
                target.output,
                &all,
                &["PROFILE", "ACCOUNT", "LIMITS"],
                list(&all["profiles"]).iter().map(row).collect(),
            );
            Ok(())
        }
    }
}

/// A client, and the path of a quota.
async fn at(of: &QuotaOfOptions) -> Result<(Client, String), Failure> {
    let client = Client::new(&of.target)?;
    let account = account(&client, &of.account).await?;
    let of = match (&of.for_cluster, &of.user, &of.role) {
        (Some(name), ..) => format!("/clusters/{}", part(name)),
        (_, Some(name), _) => format!("/users/{}", part(name)),
        (.., Some(name)) => format!("/roles/{}", part(name)),
        (None, None, None) => String::new(),
    };
    Ok((client, format!("/v1/accounts/{account}{of}/quota")))
}

async fn show(of: &QuotaOfOptions) -> Result<(), Failure> {
    let (client, path) = at(of).await?;
    let shown = client.json(Method::GET, &path, None).await?;
    let none = |value: &Value| if value.is_null() { "-".to_owned() } else { text(value) };
    let mut rows =
        vec![vec!["profile".to_owned(), text(&shown["profile"]), String::new(), String::new(), String::new()]];
    for flow in list(&shown["flows"]) {
        let window = flow["window_s"].as_u64().unwrap_or(1);
        let per = if window == 1 { "/s".to_owned() } else { format!(" in {window} s") };
        let limit = if flow["limit"].is_null() { "-".to_owned() } else { format!("{}{per}", text(&flow["limit"])) };
        let wait =
            flow["wait_ms"].as_u64().filter(|wait| *wait > 0).map_or_else(String::new, |wait| format!("{wait} ms"));
        let used = format!("{}/s", text(&flow["used_per_s"]));
        rows.push(vec![text(&flow["name"]), limit, used, none(&flow["most_used_by"]), wait]);
    }
    for stock in list(&shown["stocks"]) {
        let cells = [none(&stock["limit"]), none(&stock["held"]), String::new(), String::new()];
        rows.push([vec![text(&stock["name"])], cells.to_vec()].concat());
    }
    print(of.target.output, &shown, &["QUOTA", "LIMIT", "USED", "MOST BY", "WAIT"], rows);
    Ok(())
}

/// `ingress=2M`.
fn parse(limit: &str) -> Result<(String, Value), Failure> {
    let wrong = || {
        Failure::usage(format!(
            "--limit {limit}: NAME=VALUE is expected, a whole number with k, M or G behind it, such as ingress=2M"
        ))
    };
    let (name, value) = limit.split_once('=').ok_or_else(wrong)?;
    let (digits, times) = match value.char_indices().last() {
        Some((at, 'k')) => (&value[..at], 1_000),
        Some((at, 'M')) => (&value[..at], 1_000_000),
        Some((at, 'G')) => (&value[..at], 1_000_000_000),
        _ => (value, 1),
    };
    let value = digits.parse::<u64>().ok().and_then(|value| value.checked_mul(times)).ok_or_else(wrong)?;
    Ok((name.to_owned(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_with_their_units() {
        let value = |limit: &str| parse(limit).ok().map(|(_, value)| value);
        assert_eq!(value("ingress=2M"), Some(json!(2_000_000)));
        assert_eq!(value("groups=500"), Some(json!(500)));
        for wrong in ["ingress", "ingress=", "ingress=M", "ingress=-1", "ingress=99999999999G", "ingress=2m"] {
            assert_eq!(value(wrong), None, "{wrong}");
        }
    }
}
