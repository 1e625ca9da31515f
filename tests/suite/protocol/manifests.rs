//! Manifests: bytes, types, conditions, needs, tags, referrers.

use cove_tests::{Registry, Server, media_type, sha256};

/// Pushes a config and a layer; the manifest of them, with `extra` fields.
fn image(registry: &Registry, repository: &str, manifest_type: &str, extra: &str) -> String {
    let config = registry.push_blob(repository, b"{}");
    let layer = registry.push_blob(repository, b"a layer");
    // Odd spacing and order: whoever parses and writes it again changes the digest.
    format!(
        "{{ \"schemaVersion\":2,\n\t\"mediaType\":\"{manifest_type}\",\"layers\":[{{\"size\":7,\"digest\":\"{layer}\",\"mediaType\":\"{}\"}}],
        \"config\": {{\"mediaType\":\"{}\",\"digest\":\"{config}\",\"size\":2}}{extra} }}  \n",
        media_type::LAYER,
        media_type::CONFIG
    )
}

fn put(registry: &Registry, path: &str, media_type: &str, body: &str) -> cove_tests::Answer {
    registry.put(path, &[("Content-Type", media_type)], body.as_bytes())
}

pub fn bytes_and_types_come_back_as_they_went(server: &Server) {
    let registry = server.as_admin();
    for kind in [media_type::MANIFEST, media_type::DOCKER_MANIFEST] {
        let body = image(&registry, "bytes/a", kind, "");
        let digest = registry.push_manifest("bytes/a", "v1", kind, body.as_bytes());
        let served = registry.pull("bytes/a", "v1");
        assert_eq!((served.bytes, served.media_type.as_str()), (body.into_bytes(), kind));
        let list_type = if kind == media_type::MANIFEST { media_type::INDEX } else { media_type::DOCKER_LIST };
        let list = format!(
            r#"{{"schemaVersion":2,"mediaType":"{list_type}","manifests":[{{"mediaType":"{kind}","digest":"{digest}","size":1}}]}}"#
        );
        registry.push_manifest("bytes/a", "list", list_type, list.as_bytes());
        let served = registry.pull("bytes/a", "list");
        assert_eq!((served.bytes, served.media_type.as_str()), (list.into_bytes(), list_type));
    }
    let answer = registry.get("/v2/bytes/a/manifests/v1").expect(200);
    assert_eq!(answer.header("Docker-Distribution-Api-Version"), "registry/2.0");
    assert_eq!(registry.get("/v2/bytes/a/manifests/none").expect(404).code(), "MANIFEST_UNKNOWN");
}

pub fn what_the_client_has_is_not_sent_again(server: &Server) {
    let registry = server.as_admin();
    let body = image(&registry, "etag/a", media_type::MANIFEST, "");
    let digest = registry.push_manifest("etag/a", "v1", media_type::MANIFEST, body.as_bytes());
    let blob = sha256(b"a layer");
    for (path, digest) in [("/v2/etag/a/manifests/v1".to_owned(), &digest), (format!("/v2/etag/a/blobs/{blob}"), &blob)]
    {
        let tag = registry.get(&path).expect(200).header("ETag");
        assert_eq!(tag, format!("\"{digest}\""));
        for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let answer = registry.send("GET", &path, &[("If-None-Match", &known)], ()).expect(304);
            assert!(answer.body.is_empty());
        }
        registry.send("GET", &path, &[("If-None-Match", "\"other\"")], ()).expect(200);
    }
    let path = format!("/v2/etag/a/blobs/{blob}");
    let part = registry.send("GET", &path, &[("Range", "bytes=2-4"), ("If-Range", &format!("\"{blob}\""))], ());
    assert_eq!((part.status, part.body.as_slice()), (206, b"lay".as_slice()));
    assert_eq!(part.header("Content-Range"), "bytes 2-4/7");
    let whole = registry.send("GET", &path, &[("Range", "bytes=2-4"), ("If-Range", "\"other\"")], ());
    assert_eq!((whole.status, whole.body.len()), (200, 7));
    let outside = registry.send("GET", &path, &[("Range", "bytes=7-")], ()).expect(416);
    assert_eq!(outside.header("Content-Range"), "bytes */7");
}

pub fn an_image_needs_its_blobs(server: &Server) {
    let registry = server.as_admin();
    let body = image(&registry, "needs/a", media_type::MANIFEST, "");
    // The blobs are in another repository: that is not enough, and the answer says which are missing.
    let answer = put(&registry, "/v2/needs/b/manifests/v1", media_type::MANIFEST, &body).expect(404);
    assert_eq!(answer.code(), "MANIFEST_BLOB_UNKNOWN");
    assert!(answer.text().contains(&sha256(b"a layer")), "{answer}");
    registry.get("/v2/needs/b/manifests/v1").expect(404);
    // A layer that may not be distributed need not be there, an index's child neither.
    let foreign = body
        .replace(&sha256(b"a layer"), &sha256(b"not here"))
        .replace(media_type::LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
    put(&registry, "/v2/needs/a/manifests/foreign", media_type::MANIFEST, &foreign).expect(201);
    let sparse = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{}","digest":"{}","size":5}}]}}"#,
        media_type::MANIFEST,
        sha256(b"not here either")
    );
    put(&registry, "/v2/needs/a/manifests/sparse", media_type::INDEX, &sparse).expect(201);
}

pub fn a_blob_in_use_stays(server: &Server) {
    let registry = server.as_admin();
    let body = image(&registry, "used/a", media_type::MANIFEST, "");
    let digest = registry.push_manifest("used/a", "v1", media_type::MANIFEST, body.as_bytes());
    let layer = format!("/v2/used/a/blobs/{}", sha256(b"a layer"));
    let answer = registry.delete(&layer).expect(405);
    assert!(answer.message().contains(&digest), "the message names the manifest: {answer}");
    registry.pull("used/a", "v1");
    registry.delete(&format!("/v2/used/a/manifests/{digest}")).expect(202);
    assert_eq!(registry.get("/v2/used/a/manifests/v1").status, 404, "its tags go with it, at once");
    registry.delete(&layer).expect(202);
    assert_eq!(registry.get(&layer).expect(404).code(), "BLOB_UNKNOWN");
    registry.delete(&layer).expect(404);
}

pub fn retired_and_broken_manifests_are_refused(server: &Server) {
    let registry = server.as_admin();
    let good = image(&registry, "refused/a", media_type::MANIFEST, "");
    let path = "/v2/refused/a/manifests/v1";
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    let answer =
        put(&registry, path, schema1, r#"{"schemaVersion":1,"name":"a","tag":"v1","fsLayers":[]}"#).expect(400);
    assert_eq!(answer.code(), "MANIFEST_INVALID");
    assert!(answer.message().contains("schema 1"), "{answer}");
    let deep = format!(r#"{{"schemaVersion":2,"manifests":[],"x":{}{}}}"#, "[".repeat(1000), "]".repeat(1000));
    let cases = [
        ("text/html", good.clone()),
        ("application/json", good.clone()),
        (media_type::INDEX, good.clone()),
        (media_type::DOCKER_MANIFEST, good.clone()),
        (media_type::INDEX, deep),
        (media_type::MANIFEST, String::new()),
        (media_type::MANIFEST, "null".to_owned()),
        (media_type::MANIFEST, "\u{0}".to_owned()),
        (media_type::MANIFEST, good.replace("\"schemaVersion\":2", "\"schemaVersion\":3")),
        (media_type::MANIFEST, good.replace("sha256:", "sha256:x")),
        (media_type::MANIFEST, good.replace("\"size\":7", "\"size\":-7")),
        (media_type::MANIFEST, good.replace("\"schemaVersion\":2", "\"schemaVersion\":2,\"manifests\":[]")),
    ];
    for (kind, body) in cases {
        let answer = put(&registry, path, kind, &body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_INVALID"), "{kind}: {body:.200}");
        assert!(answer.message().len() > 20, "{answer}");
    }
    registry.get(path).expect(404);
    for tag in ["-bad", ".bad", "a%20b"] {
        assert!(matches!(
            put(&registry, &format!("/v2/refused/a/manifests/{tag}"), media_type::MANIFEST, &good).status,
            400
        ));
    }
}

pub fn several_tags_in_one_request(server: &Server) {
    let registry = server.as_admin();
    let body = image(&registry, "several/a", media_type::MANIFEST, "");
    let digest = sha256(body.as_bytes());
    let path = format!("/v2/several/a/manifests/{digest}?tag=one&tag=two&tag=one");
    let answer = put(&registry, &path, media_type::MANIFEST, &body).expect(201);
    let tags: Vec<_> = answer.headers.get_all("OCI-Tag").iter().map(|tag| tag.to_str().unwrap().to_owned()).collect();
    assert_eq!(tags, ["one", "two"]);
    assert_eq!(registry.tags("several/a"), ["one", "two"]);
    let many: String = (0..200).map(|n| format!("&tag=t{n}")).collect();
    put(&registry, &format!("/v2/several/a/manifests/{digest}?tag=x{many}"), media_type::MANIFEST, &body).expect(414);
    put(&registry, &format!("/v2/several/a/manifests/{digest}?tag=-bad"), media_type::MANIFEST, &body).expect(400);
    assert_eq!(registry.tags("several/a"), ["one", "two"], "a refused request sets no tag");
    registry.delete("/v2/several/a/manifests/one").expect(202);
    assert_eq!(registry.tags("several/a"), ["two"], "deleting a tag leaves the others");
    registry.get(&format!("/v2/several/a/manifests/{digest}")).expect(200);
}

pub fn referrers_are_found_and_filtered(server: &Server) {
    let registry = server.as_admin();
    let subject = image(&registry, "refer/a", media_type::MANIFEST, "");
    let subject = registry.push_manifest("refer/a", "v1", media_type::MANIFEST, subject.as_bytes());
    let mut pushed = Vec::new();
    for kind in ["application/x.signature", "application/x.sbom"] {
        let extra = format!(
            r#","artifactType":"{kind}","annotations":{{"k":"{kind}"}},"subject":{{"mediaType":"{}","digest":"{subject}","size":1}}"#,
            media_type::MANIFEST
        );
        let body = image(&registry, "refer/a", media_type::MANIFEST, &extra);
        let digest = sha256(body.as_bytes());
        let answer =
            put(&registry, &format!("/v2/refer/a/manifests/{digest}"), media_type::MANIFEST, &body).expect(201);
        assert_eq!(answer.header("OCI-Subject"), subject);
        pushed.push(digest);
    }
    let list = |query: &str| {
        let answer = registry.get(&format!("/v2/refer/a/referrers/{subject}{query}")).expect(200);
        assert_eq!(answer.header("Content-Type"), media_type::INDEX);
        let found = answer.json()["manifests"].as_array().unwrap().clone();
        let digests: Vec<String> = found.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect();
        (digests, answer.find_header("OCI-Filters-Applied"), found)
    };
    let (all, filter, entries) = list("");
    assert_eq!((all.len(), filter), (2, None));
    assert!(pushed.iter().all(|digest| all.contains(digest)));
    assert_eq!(entries[0]["annotations"]["k"], entries[0]["artifactType"]);
    let (some, filter, _) = list("?artifactType=application/x.sbom");
    assert_eq!((some, filter.as_deref()), (vec![pushed[1].clone()], Some("artifactType")));
    registry.delete(&format!("/v2/refer/a/manifests/{}", pushed[0])).expect(202);
    assert_eq!(list("").0, [pushed[1].clone()], "gone at once");
    for nowhere in ["/v2/refer/none/referrers/", "/v2/refer/a/referrers/"] {
        let answer = registry.get(&format!("{nowhere}{}", sha256(b"nothing"))).expect(200);
        assert_eq!(answer.json()["manifests"].as_array().unwrap().len(), 0);
    }
    registry.get("/v2/refer/a/referrers/sha256:short").expect(400);
}
