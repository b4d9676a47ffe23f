//! `span cluster`.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use serde_json::json;
use span_discovery::url::ServiceUrl;
use zeroize::Zeroizing;

use super::args::Cluster;
use crate::clock;
use crate::token::Token;

pub(super) fn run(args: &Cluster) -> Result<ExitCode> {
    match args {
        Cluster::New { discovery, json } => new(discovery, *json),
    }
}

fn new(discovery: &[String], json: bool) -> Result<ExitCode> {
    let url = |url: &String| url.parse::<ServiceUrl>().with_context(|| format!("--discovery {url}"));
    let services = discovery.iter().map(url).collect::<Result<Vec<_>>>()?;
    let random = Zeroizing::new(clock::entropy().context("reading randomness")?);
    let token = Token::generate(&random, services)?;
    let text = token.encode();
    if json {
        let services: Vec<String> = token.services().iter().map(ServiceUrl::to_string).collect();
        let secret = token.secret().to_base64();
        println!(
            "{:#}",
            json!({ "token": *text, "id": token.id().as_str(), "secret": *secret, "discovery": services })
        );
    } else {
        println!("{}", *text);
    }
    Ok(ExitCode::SUCCESS)
}
