//! Arguments of the commands that talk to registries.

use clap::{Args, ValueEnum};
use clap_complete::ArgValueCompleter;
use cove_oci::{Codec, Platform};

use crate::completion::image_names;
use crate::filter::Filter;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressStyle {
    /// Lines that move on a terminal, plain ones elsewhere.
    #[default]
    Auto,
    /// Plain lines, and a total every few seconds.
    Plain,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

/// Authenticate to a registry
///
/// Defaults to Docker Hub, or to `default-registry` of the configuration, if no server is specified
#[derive(Debug, Args)]
pub struct Login {
    /// Password or personal access token
    #[arg(short, long, value_name = "string")]
    pub password: Option<String>,
    /// Take the password or personal access token from stdin
    #[arg(long)]
    pub password_stdin: bool,
    /// Username
    #[arg(short, long, value_name = "string")]
    pub username: Option<String>,
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// Log out from a registry
///
/// Defaults to Docker Hub, or to `default-registry` of the configuration, if no server is specified
#[derive(Debug, Args)]
pub struct Logout {
    #[arg(value_name = "SERVER")]
    pub server: Option<String>,
}

/// Download an image from a registry
#[derive(Debug, Args)]
pub struct Pull {
    /// Download the images of all platforms of an index, so that it can be pushed as it is
    #[arg(long)]
    pub all_platforms: bool,
    /// Download all tagged images in the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Accepted for docker's sake: without effect (default true)
    #[arg(long)]
    pub disable_content_trust: bool,
    /// Take the image for this platform, 'os[/arch[/variant]]'
    #[arg(long, value_name = "string", env = "DOCKER_DEFAULT_PLATFORM", hide_env = true)]
    pub platform: Option<Platform>,
    /// How to show progress: 'auto', 'plain', 'json' or 'none'
    #[arg(long, value_name = "string", value_enum, default_value = "auto", env = "COVE_PROGRESS", hide_env = true)]
    pub progress: ProgressStyle,
    /// Suppress verbose output
    #[arg(short, long)]
    pub quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]", add = ArgValueCompleter::new(image_names))]
    pub image: String,
}

/// Upload an image to a registry
///
/// A name that stands for an index is pushed as the image for this machine, unless all platforms or another one are asked for
#[derive(Debug, Args)]
pub struct Push {
    /// Push the index with the images of all platforms; those that are not in the store must be in the registry
    #[arg(long)]
    pub all_platforms: bool,
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// How layers that are not compressed yet are compressed: 'gzip' or 'zstd' (default "gzip")
    #[arg(long, value_name = "string", value_parser = codec)]
    pub compression: Option<Codec>,
    /// Accepted for docker's sake: without effect (default true)
    #[arg(long)]
    pub disable_content_trust: bool,
    /// Push only the image of this platform, 'os[/arch[/variant]]', of those that the name stands for, without the index
    #[arg(long, value_name = "string")]
    pub platform: Option<Platform>,
    /// How to show progress: 'auto', 'plain', 'json' or 'none'
    #[arg(long, value_name = "string", value_enum, default_value = "auto", env = "COVE_PROGRESS", hide_env = true)]
    pub progress: ProgressStyle,
    /// Suppress verbose output
    #[arg(short, long)]
    pub quiet: bool,
    #[arg(value_name = "NAME[:TAG]", add = ArgValueCompleter::new(image_names))]
    pub image: String,
}

fn codec(text: &str) -> Result<Codec, String> {
    match text {
        "gzip" => Ok(Codec::Gzip),
        "zstd" => Ok(Codec::Zstd),
        _ => Err("must be gzip or zstd".to_owned()),
    }
}

/// Search a registry for images
#[derive(Debug, Args)]
pub struct Search {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    pub filter: Vec<Filter>,
    /// Pretty-print search using a Go template
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Max number of search results
    #[arg(long, value_name = "int")]
    pub limit: Option<u32>,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(value_name = "TERM")]
    pub term: String,
}

/// Display an image manifest, or manifest list
#[derive(Debug, Args)]
pub struct InspectManifest {
    /// Accepted for docker's sake: configure insecure registries instead
    #[arg(long)]
    pub insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    pub verbose: bool,
    #[arg(value_name = "MANIFEST")]
    pub manifest: String,
}
