//! Arguments of the commands about images in the store.

use std::path::PathBuf;

use clap::Args;
use clap_complete::ArgValueCompleter;
use cove_oci::Platform;

use crate::completion::image_names;
use crate::filter::Filter;

/// List images
#[derive(Debug, Args)]
pub struct Images {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    pub all: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    pub filter: Vec<Filter>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE', where TEMPLATE is a Go template
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    pub quiet: bool,
    #[arg(value_name = "REPOSITORY[:TAG]", add = ArgValueCompleter::new(image_names))]
    pub repository: Option<String>,
}

/// Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
#[derive(Debug, Args)]
pub struct Tag {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]", add = ArgValueCompleter::new(image_names))]
    pub source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]", add = ArgValueCompleter::new(image_names))]
    pub target: String,
}

/// Remove one or more images
#[derive(Debug, Args)]
pub struct Remove {
    /// Force removal of the image
    #[arg(short, long)]
    pub force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    pub no_prune: bool,
    /// Remove only the image of this platform, 'os[/arch[/variant]]', from what the name stands for
    #[arg(long, value_name = "string")]
    pub platform: Option<Platform>,
    #[arg(required = true, value_name = "IMAGE", add = ArgValueCompleter::new(image_names))]
    pub images: Vec<String>,
}

/// Return low-level information on Cove objects
#[derive(Debug, Args)]
pub struct Inspect {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    pub size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    pub kind: Option<String>,
    #[arg(required = true, value_name = "NAME|ID", add = ArgValueCompleter::new(image_names))]
    pub names: Vec<String>,
}

/// Display detailed information on one or more images
#[derive(Debug, Args)]
pub struct InspectImage {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    pub format: Option<String>,
    /// Inspect the image of this platform, 'os[/arch[/variant]]', of those that the name stands for
    #[arg(long, value_name = "string")]
    pub platform: Option<Platform>,
    #[arg(required = true, value_name = "IMAGE", add = ArgValueCompleter::new(image_names))]
    pub images: Vec<String>,
}

/// Show the history of an image
#[derive(Debug, Args)]
pub struct History {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or 'TEMPLATE', where TEMPLATE is a Go template
    #[arg(long, value_name = "string")]
    pub format: Option<String>,
    /// Print sizes and dates in human readable format (default true)
    #[arg(short = 'H', long, default_value = "true")]
    pub human: bool,
    /// Don't truncate output
    #[arg(long)]
    pub no_trunc: bool,
    /// Show the history of the image of this platform, 'os[/arch[/variant]]'
    #[arg(long, value_name = "string")]
    pub platform: Option<Platform>,
    /// Only show image IDs
    #[arg(short, long)]
    pub quiet: bool,
    #[arg(value_name = "IMAGE", add = ArgValueCompleter::new(image_names))]
    pub image: String,
}

/// Save one or more images to a tar archive (streamed to STDOUT by default)
///
/// A name that stands for an index is saved with the images of all platforms that are in the store
#[derive(Debug, Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    pub output: Option<PathBuf>,
    /// Save only the image of this platform, 'os[/arch[/variant]]', without the index that lists it
    #[arg(long, value_name = "string")]
    pub platform: Option<Platform>,
    #[arg(required = true, value_name = "IMAGE", add = ArgValueCompleter::new(image_names))]
    pub images: Vec<String>,
}

/// Load an image from a tar archive or STDIN
///
/// Of an index, the images of all platforms that the archive has are loaded; the name stands for the one for this machine
#[derive(Debug, Args)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    pub input: Option<PathBuf>,
    /// Load only the image of this platform, 'os[/arch[/variant]]'
    #[arg(long, value_name = "string")]
    pub platform: Option<Platform>,
    /// Suppress the load output
    #[arg(short, long)]
    pub quiet: bool,
}

/// Import the contents from a tarball to create a filesystem image
#[derive(Debug, Args)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    pub change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    pub message: Option<String>,
    /// Set the platform that the image is for, 'os[/arch[/variant]]'
    #[arg(long, value_name = "string")]
    pub platform: Option<Platform>,
    #[arg(value_name = "file|URL|-")]
    pub file: PathBuf,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub reference: Option<String>,
}

/// Remove unused images
#[derive(Debug, Args)]
pub struct Prune {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    pub all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    pub filter: Vec<Filter>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub force: bool,
}

/// Mount an image's files read-only and print where
#[derive(Debug, Args)]
pub struct Mount {
    #[arg(value_name = "IMAGE", add = ArgValueCompleter::new(image_names))]
    pub image: String,
}

/// Unmount an image's files
#[derive(Debug, Args)]
pub struct Unmount {
    #[arg(value_name = "IMAGE", add = ArgValueCompleter::new(image_names))]
    pub image: String,
}
