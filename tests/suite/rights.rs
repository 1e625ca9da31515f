//! Who may: the model of `cove_tests::rights` over HTTP on every back end, the token service, the commands of the
//! administrator beside a running server, the first start, logins that fail, and secrets that stay out of logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "rights/commands.rs"]
mod commands;
#[path = "rights/first_start.rs"]
mod first_start;
#[path = "rights/logins.rs"]
mod logins;
#[path = "rights/model.rs"]
mod model;
#[path = "rights/secrets.rs"]
mod secrets;
#[path = "rights/token_service.rs"]
mod token_service;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cove_tests::{Answer, Login, Server};
use serde_json::Value;

/// The content of a bearer token.
fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The header of a bearer token.
fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).expect("a token has three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

/// A form sent to the token service.
fn post(server: &Server, fields: &[(&str, &str)]) -> Answer {
    let encode = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        text.bytes()
            .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect::<String>()
    };
    let form: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    server.as_anonymous().post("/token", &headers, form.join("&").as_bytes())
}

/// The status of a request with a login, or with a bearer token.
fn status(server: &Server, login: &Login, path: &str) -> u16 {
    server.as_user(login).get(path).status
}

fn status_with(server: &Server, token: &str, path: &str) -> u16 {
    server.as_anonymous().with_token(token).get(path).status
}

fn field(answer: &Answer, name: &str) -> String {
    answer.json()[name].as_str().unwrap_or_else(|| panic!("no {name} in {answer}")).to_owned()
}
