//! `weir issuer`.

use hyper::Method;
use serde_json::{Value, json};

use super::identity::{account, read};
use super::{list, text};
use crate::cli::IssuerCommand;
use crate::client::{Client, part};
use crate::output::{Failure, print};

pub async fn run(command: IssuerCommand) -> Result<(), Failure> {
    let row = |issuer: &Value| {
        let all = |key: &str| list(&issuer[key]).iter().map(text).collect::<Vec<_>>().join(" ");
        vec![text(&issuer["name"]), text(&issuer["issuer"]), all("audiences"), all("roles")]
    };
    let heading = ["NAME", "ISSUER", "AUDIENCES", "ROLES"];
    match command {
        IssuerCommand::Add { name, issuer, audience, role, role_claim, jwks_url, jwks, account: of, target } => {
            let mut body = json!({
                "name": name, "issuer": issuer, "audiences": audience, "roles": role, "role_claim": role_claim,
                "jwks_url": jwks_url,
            });
            if let Some(file) = jwks {
                let keys: Result<Value, _> = serde_json::from_str(&read(&file)?);
                body["jwks"] = keys.map_err(|error| Failure::usage(format!("`{}`: {error}", file.display())))?;
            }
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/issuers", account(&client, &of).await?);
            let made = client.json(Method::POST, &path, Some(&body)).await?;
            print(target.output, &made, &heading, vec![row(&made)]);
        }
        IssuerCommand::List { account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/issuers", account(&client, &of).await?);
            let all = client.json(Method::GET, &path, None).await?;
            print(target.output, &all, &heading, list(&all["issuers"]).iter().map(row).collect());
        }
        IssuerCommand::Remove { name, account: of, target } => {
            let client = Client::new(&target)?;
            let path = format!("/v1/accounts/{}/issuers/{}", account(&client, &of).await?, part(&name));
            client.json(Method::DELETE, &path, None).await?;
        }
    }
    Ok(())
}
