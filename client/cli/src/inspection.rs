//! `inspect`: an image as docker describes it.

use cove_oci::{Digest, ImageConfig, Reference};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// What the store adds to an image's configuration.
pub struct Inspected<'a> {
    /// The configuration.
    pub config: &'a ImageConfig,
    /// Names, as they are shown.
    pub tags: Vec<String>,
    /// RepoDigests, as they are shown.
    pub digests: Vec<String>,
    /// Bytes of the files.
    pub size: u64,
    /// Folders of the layers, the lowest first.
    pub folders: Vec<String>,
    /// When it last got a name, RFC 3339.
    pub last_tag: Option<String>,
    /// Descriptor of the manifest or index that it came with.
    pub descriptor: Option<Value>,
}

/// Docker's description of an image, its fields in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Document {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: &'static str,
    comment: String,
    created: String,
    docker_version: String,
    author: String,
    config: Fields,
    architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    variant: String,
    os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    os_version: String,
    size: u64,
    virtual_size: u64,
    graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    rootfs: RootFs,
    metadata: Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<Data>,
    name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    #[serde(skip_serializing_if = "String::is_empty")]
    lower_dir: String,
    upper_dir: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    r#type: &'static str,
    layers: Vec<Digest>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

/// Go's zero time: nobody knows.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// Docker's description of an image.
pub fn document(image: Inspected<'_>) -> Document {
    let config = image.config.document();
    // The whole configuration of containers is shown, fields that nobody here knows of included.
    let raw: Value = serde_json::from_slice(image.config.bytes()).unwrap_or_default();
    Document {
        id: image.config.id().to_string(),
        repo_tags: image.tags,
        repo_digests: image.digests,
        parent: "",
        comment: comment(image.config),
        created: config.created.clone().unwrap_or_else(|| ZERO_TIME.to_owned()),
        docker_version: config.docker_version.clone(),
        author: config.author.clone().unwrap_or_default(),
        config: run_config(raw.get("config")),
        architecture: config.architecture.clone(),
        variant: config.variant.clone(),
        os: config.os.clone(),
        os_version: config.os_version.clone(),
        size: image.size,
        virtual_size: image.size,
        graph_driver: GraphDriver { data: folders(&image.folders), name: "overlay2" },
        rootfs: RootFs { r#type: "layers", layers: image.config.diff_ids().to_vec() },
        metadata: Metadata { last_tag_time: image.last_tag.unwrap_or_else(|| ZERO_TIME.to_owned()) },
        descriptor: image.descriptor,
    }
}

/// Docker shows the last line of the history where the image itself says nothing.
fn comment(config: &ImageConfig) -> String {
    let document = config.document();
    match (document.comment.is_empty(), document.history.last()) {
        (true, Some(last)) => last.comment.clone(),
        _ => document.comment.clone(),
    }
}

/// Fields in an order of their own.
#[derive(Debug)]
struct Fields(Vec<(String, Value)>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// The configuration of containers with docker's usual fields, in docker's order, though they be empty: templates
/// ask for them.
fn run_config(config: Option<&Value>) -> Fields {
    let mut given = config.and_then(Value::as_object).cloned().unwrap_or_default();
    let usual = [
        ("Hostname", json!("")),
        ("Domainname", json!("")),
        ("User", json!("")),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(false)),
        ("AttachStderr", json!(false)),
        ("Tty", json!(false)),
        ("OpenStdin", json!(false)),
        ("StdinOnce", json!(false)),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Image", json!("")),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
    ];
    let mut fields: Vec<(String, Value)> =
        usual.into_iter().map(|(name, value)| (name.to_owned(), given.remove(name).unwrap_or(value))).collect();
    fields.extend(given);
    Fields(fields)
}

fn folders(lowest_first: &[String]) -> Option<Data> {
    let (upper, lower) = lowest_first.split_last()?;
    let lower: Vec<&str> = lower.iter().rev().map(String::as_str).collect();
    Some(Data { lower_dir: lower.join(":"), upper_dir: upper.clone() })
}

/// Names, as they are shown.
pub fn shown(names: &[Reference], show: impl Fn(&Reference) -> String) -> Vec<String> {
    let mut shown: Vec<String> = names.iter().map(show).collect();
    shown.sort();
    shown
}

/// JSON as docker prints it: indented by four spaces.
pub fn pretty(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    value.serialize(&mut serializer)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_described_as_docker_describes_it() {
        let bytes = br#"{"architecture":"amd64","os":"linux","config":{"Cmd":["sh"],"Labels":{"a":"b"},"New":1},
            "created":"2026-11-24T00:31:03.908173641Z","history":[{"comment":"Imported from -"}],
            "rootfs":{"type":"layers","diff_ids":["sha256:25b1a7c2ce6c9d685a0132fe9d6d1a8c65d28c45b9d087ffe175809404e4b517"]}}"#;
        let config = ImageConfig::parse(bytes.to_vec()).unwrap();
        let image = Inspected {
            config: &config,
            tags: vec!["foo:bar".into()],
            digests: vec![],
            size: 3,
            folders: vec!["/a".into(), "/b".into(), "/c".into()],
            last_tag: None,
            descriptor: None,
        };
        let text = pretty(&[document(image)]).unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        let document = &read[0];
        assert_eq!(document["Comment"], "Imported from -");
        assert_eq!(document["Config"]["Cmd"], json!(["sh"]));
        assert_eq!(document["Config"]["New"], 1);
        assert_eq!(document["Config"]["Entrypoint"], Value::Null);
        assert_eq!(document["GraphDriver"]["Data"]["LowerDir"], "/b:/a");
        assert!(text.starts_with("[\n    {\n        \"Id\": \"sha256:"), "{text}");
        let fields: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("        \"")?.split('"').next()).collect();
        let docker = [
            "Id",
            "RepoTags",
            "RepoDigests",
            "Parent",
            "Comment",
            "Created",
            "DockerVersion",
            "Author",
            "Config",
            "Architecture",
            "Os",
            "Size",
            "VirtualSize",
            "GraphDriver",
            "RootFS",
            "Metadata",
        ];
        assert_eq!(fields, docker);
    }
}
