//! Speaks the distribution protocol to a registry.
//!
//! A [`Client`] makes a [`Repository`], which is a source and a target of copies. A request's way: the repository
//! names it, an endpoint (one host of the registry) sends it with authorisation, follows where it is led as far as
//! the rules allow, and tries again what may pass. Blobs go on where they broke off, in both directions.

mod address;
mod answer;
mod authorization;
mod challenge;
mod client;
mod credentials;
mod download;
mod endpoint;
mod error;
mod file;
mod home;
mod login;
mod patience;
mod pieces;
mod proxies;
mod pull;
mod push;
mod registries;
mod repository;
mod search;
mod shown;
mod stranger;
mod tags;
mod transport;
mod upload;

pub use challenge::{Challenge, ChallengeError};
pub use client::Client;
pub use credentials::{
    AGENT_VARIABLE, Agent, AgentServer, Credential, CredentialError, CredentialPaths, CredentialSource, DockerConfig,
    NoCredentials, Stored, TokenService,
};
pub use error::{ChallengeProblem, Error, ProxyProblem, Refusal};
pub use file::WebFile;
pub use home::home_folder;
pub use login::{LoggedIn, Login};
pub use patience::Patience;
pub use registries::{
    Access, Capabilities, ClientCertificate, ConfigPaths, Host, Limits, PrefixRewrite, Registries, RegistriesError,
    Variables,
};
pub use repository::Repository;
pub use search::SearchResult;
pub use shown::ShownUrl;
