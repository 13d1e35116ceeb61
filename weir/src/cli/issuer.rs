//! Options of `weir issuer`.

use std::path::PathBuf;

use clap::Subcommand;

use super::{AccountOption, Target};

#[derive(Debug, Subcommand)]
pub enum IssuerCommand {
    /// Trust an OpenID Connect issuer: whoever has a token of it takes on a role
    ///
    /// Kafka clients log in with the token by OAUTHBEARER, HTTP clients as bearers. The session is called by the token's subject and
    /// ends with the token.
    #[command(
        after_help = "Examples:\n  weir issuer add sso --issuer https://sso.example/realms/main --audience weir --role app\n  \
          weir issuer add sso --issuer https://sso.example --audience weir --role reader --role writer --role-claim weir_role\n  \
          weir issuer add ci --issuer https://ci.example --audience weir --role ci --jwks keys.json"
    )]
    Add {
        /// What it is called here
        name: String,
        /// The `iss` of its tokens, to the letter
        #[arg(long, value_name = "URL")]
        issuer: String,
        /// The `aud` of tokens that are meant for this account; again for several
        #[arg(long, value_name = "AUDIENCE", required = true)]
        audience: Vec<String>,
        /// The role that is taken on; again for several, of which --role-claim names one
        #[arg(long, value_name = "ROLE", required = true)]
        role: Vec<String>,
        /// The claim that names the role
        #[arg(long, value_name = "CLAIM")]
        role_claim: Option<String>,
        /// Where its public keys are; the issuer is asked unless they are given
        #[arg(long, value_name = "URL", conflicts_with = "jwks")]
        jwks_url: Option<String>,
        /// Its public keys (a JSON Web Key Set); nothing is fetched then
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// List the issuers that an account trusts
    #[command(after_help = "Example:\n  weir issuer list --account 123456789012")]
    List {
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// Refuse one token of an issuer, by its id (`jti`); what it opened ends within ten seconds
    ///
    /// A token without an id cannot be denied: take the issuer away, or the role's policy.
    #[command(after_help = "Examples:\n  weir issuer deny sso 3f0b1c52 --account 123456789012\n  \
          weir issuer deny sso 3f0b1c52 --hours 24   # it ends within a day by itself")]
    Deny {
        /// The issuer's name here
        name: String,
        /// The token's `jti`
        token: String,
        /// For so long: until the token ends by itself is enough; for good unless given
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        hours: Option<u32>,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// Take a token again that was denied
    #[command(after_help = "Example:\n  weir issuer allow sso 3f0b1c52 --account 123456789012")]
    Allow {
        /// The issuer's name here
        name: String,
        /// The token's `jti`
        token: String,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// List the tokens of an issuer that are denied
    #[command(after_help = "Example:\n  weir issuer denied sso --account 123456789012")]
    Denied {
        /// The issuer's name here
        name: String,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
    /// Trust an issuer no more; connections that were opened with its tokens end within ten seconds
    #[command(after_help = "Example:\n  weir issuer remove sso --account 123456789012")]
    Remove {
        name: String,
        #[command(flatten)]
        account: AccountOption,
        #[command(flatten)]
        target: Target,
    },
}
