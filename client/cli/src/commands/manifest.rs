//! `cove manifest inspect`: a manifest as the registry has it.

use cove_oci::{Manifest, ManifestKind};
use cove_remote::Access;
use cove_transfer::Source;
use serde_json::json;

use crate::arguments::InspectManifest;
use crate::context::Context;
use crate::error::Error;

/// Prints a manifest, fields in the order in which they came.
pub fn run(context: &Context, arguments: &InspectManifest) -> Result<(), Error> {
    let reference = context.reference(&arguments.manifest)?.or_latest();
    let client = context.client()?;
    let failed = |source| Error::Manifest { name: Box::new(reference.clone()), source };
    let text = context.network(async {
        let repository = client.repository(&reference, Access::Pull);
        let root = repository.resolve(&reference.manifest_reference()).await.map_err(failed)?;
        let manifest = repository.manifest(&root).await.map_err(failed)?;
        if !arguments.verbose {
            return Ok(String::from_utf8_lossy(manifest.bytes()).into_owned());
        }
        if manifest.kind() == ManifestKind::Image {
            return verbose(&reference.to_string(), &manifest, &root);
        }
        let mut images = Vec::new();
        for child in manifest.children() {
            let image = repository.manifest(child).await.map_err(failed)?;
            images.push(verbose(&reference.with_digest(child.digest.clone()).to_string(), &image, child)?);
        }
        Ok(format!("[{}]", images.join(",")))
    })?;
    Ok(context.printer.line(indented(&text))?)
}

/// A manifest with its descriptor, as `-v` shows it.
fn verbose(name: &str, manifest: &Manifest, descriptor: &cove_oci::Descriptor) -> Result<String, Error> {
    let kind = if manifest.media_type().contains("docker") { "SchemaV2Manifest" } else { "OCIManifest" };
    // The manifest itself stays as it came, so it is not read and written again.
    let descriptor = serde_json::to_string(descriptor).map_err(std::io::Error::from)?;
    let manifest = String::from_utf8_lossy(manifest.bytes());
    Ok(format!("{{\"Ref\":{},\"Descriptor\":{descriptor},\"{kind}\":{manifest}}}", json!(name)))
}

/// JSON with a line a value, indented by tabs as docker prints manifests. Nothing but space between values changes.
fn indented(json: &str) -> String {
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0usize, false, false);
    let mut characters = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n('\t', depth));
    };
    while let Some(character) = characters.next() {
        if in_string {
            out.push(character);
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match character {
            ' ' | '\t' | '\n' | '\r' => {}
            '{' | '[' => {
                out.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if characters.next_if(|next| matches!(next, '}' | ']')).is_some() {
                    out.push(if character == '{' { '}' } else { ']' });
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_string = true;
                out.push('"');
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_space_changes() {
        let json = r#"{"b":{"x":[],"y": { }},"a":[1,"{\"},:[" , null]}"#;
        let expected = "{\n\t\"b\": {\n\t\t\"x\": [],\n\t\t\"y\": {}\n\t},\n\t\"a\": [\n\t\t1,\n\t\t\"{\\\"},:[\",\n\t\tnull\n\t]\n}";
        assert_eq!(indented(json), expected);
        assert_eq!(indented(expected), expected);
    }
}
