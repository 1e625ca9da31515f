//! Tag lists and the catalog.

use cove_tests::{Answer, Registry, Server, media_type};

const EMPTY_INDEX: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

fn tag(registry: &Registry, repository: &str, tag: &str) {
    registry.push_manifest(repository, tag, media_type::INDEX, EMPTY_INDEX);
}

/// Follows `Link` from page to page; the entries of each.
fn pages(registry: &Registry, first: &str, field: &str) -> Vec<Vec<String>> {
    let entries = |answer: &Answer| -> Vec<String> {
        let json = answer.json();
        json[field].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().to_owned()).collect()
    };
    let mut answer = registry.get(first).expect(200);
    let mut pages = vec![entries(&answer)];
    while let Some(link) = answer.find_header("Link") {
        let (path, rest) = link.trim_start_matches('<').split_once('>').unwrap();
        assert_eq!(rest, "; rel=\"next\"");
        answer = registry.get(path).expect(200);
        pages.push(entries(&answer));
        assert!(pages.len() < 100, "the pages do not end");
    }
    pages
}

pub fn tags_are_paged(server: &Server) {
    let registry = server.as_admin();
    // In the order of their bytes: capitals before small letters.
    let mut tags: Vec<String> = (0..23).map(|n| format!("t{n}")).collect();
    tags.extend(["A".to_owned(), "Z".to_owned(), "_x".to_owned(), "0".to_owned()]);
    tags.iter().for_each(|name| tag(&registry, "paged/a", name));
    tags.sort();
    assert_eq!(registry.tags("paged/a"), tags);
    for n in [1, 5, 26, 27, 28] {
        let pages = pages(&registry, &format!("/v2/paged/a/tags/list?n={n}"), "tags");
        assert!(pages.iter().all(|page| page.len() <= n));
        assert_eq!(pages.concat(), tags, "n={n}");
    }
    let after = registry.get("/v2/paged/a/tags/list?last=t21").expect(200).json();
    assert_eq!(after["tags"].as_array().unwrap().len(), 8, "{after}");
    assert_eq!(after["name"], "paged/a");
    assert_eq!(registry.get("/v2/paged/none/tags/list").expect(404).code(), "NAME_UNKNOWN");
}

pub fn the_catalog_is_paged_and_shows_what_one_may_see(server: &Server) {
    let registry = server.as_admin();
    let user = server.as_user(&server.add_user("lister"));
    let own: Vec<String> = (0..5).map(|n| format!("lister/r{n}")).collect();
    own.iter().for_each(|name| tag(&user, name, "v1"));
    ["catalog/hidden", "catalog/open", "catalog/granted/a", "catalog/granted"]
        .iter()
        .for_each(|name| tag(&registry, name, "v1"));
    server.admin(["repo", "set", "catalog/open", "--public"]);
    server.admin(["grant", "lister", "catalog/granted/*", "pull"]);
    let seen = pages(&user, "/v2/_catalog?n=2", "repositories");
    assert!(seen.iter().all(|page| page.len() <= 2));
    let mut expected = vec!["catalog/granted/a".to_owned(), "catalog/open".to_owned()];
    expected.extend(own);
    assert_eq!(seen.concat(), expected);
    let everything = pages(&registry, "/v2/_catalog", "repositories").concat();
    assert!(everything.contains(&"catalog/hidden".to_owned()) && everything.len() > expected.len());
    assert_eq!(server.as_anonymous().get("/v2/_catalog").status, 401);
}

pub fn page_sizes_of_all_kinds(server: &Server) {
    let registry = server.as_admin();
    tag(&registry, "sizes/a", "v1");
    let before = private_memory(server.id());
    for path in ["/v2/sizes/a/tags/list", "/v2/_catalog"] {
        for n in ["2147483648", "9223372036854775808", "99999999999999999999999999"] {
            registry.get(&format!("{path}?n={n}")).expect(200);
        }
        for n in ["-1", "x", "", "1.5", "0x10"] {
            assert_eq!(registry.get(&format!("{path}?n={n}")).expect(400).code(), "PAGINATION_NUMBER_INVALID", "n={n}");
        }
        registry.get(&format!("{path}?last=%00")).expect(200);
        let none = registry.get(&format!("{path}?n=0")).expect(200);
        assert!(none.find_header("Link").is_none(), "{none}");
        assert!(none.text().contains("[]"), "{none}");
    }
    let grown = private_memory(server.id()).saturating_sub(before);
    assert!(grown < 8 * 1024, "lists cost {grown} kB");
}

/// Private memory of a process in kB.
pub fn private_memory(id: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap();
    let private = rollup.lines().filter(|line| line.starts_with("Private"));
    private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}
