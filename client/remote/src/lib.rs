//! Speaks the distribution protocol to a registry.

mod credentials;
mod registries;

pub use credentials::{
    AGENT_VARIABLE, Agent, AgentServer, Credential, CredentialError, CredentialPaths, CredentialSource, DockerConfig,
    NoCredentials, Stored,
};
pub use registries::{
    Access, Capabilities, ClientCertificate, ConfigPaths, Host, Limits, PrefixRewrite, Registries, RegistriesError,
    Variables,
};
