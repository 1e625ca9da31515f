//! The conformance suite of the OCI distribution specification, and what it reports.

use std::fs;
use std::path::Path;

use crate::{Cmd, Scratch, Server, tool};

/// What the suite has reported.
#[derive(Debug)]
pub struct Conformance {
    /// How many tests ran, as the suite counts.
    pub tests: usize,
    /// How many of them failed, ended in an error or were skipped, as the suite counts.
    pub bad: usize,
    /// The tests that did not pass: name, status and the beginning of what was said and done.
    pub not_passed: Vec<String>,
    /// The APIs and data sets that are not marked as passed: `name: mark`.
    pub not_marked: Vec<String>,
}

impl Conformance {
    /// Runs the whole suite against a server, as its administrator, at the specification's development head, with
    /// every API and every kind of data switched on, the sparse ones if so asked.
    pub fn run(server: &Server, is_sparse: bool) -> Self {
        const ON: [&str; 29] = [
            "API_PING",
            "API_PULL",
            "API_PUSH",
            "API_BLOBS_ATOMIC",
            "API_BLOBS_DELETE",
            "API_BLOBS_DIGEST_HEADER",
            "API_BLOBS_MOUNT_ANONYMOUS",
            "API_BLOBS_UPLOAD_CANCEL",
            "API_MANIFESTS_ATOMIC",
            "API_MANIFESTS_DELETE",
            "API_MANIFESTS_DIGEST_HEADER",
            "API_MANIFESTS_TAG_PARAM",
            "API_TAGS_ATOMIC",
            "API_TAGS_DELETE",
            "API_TAGS_LIST",
            "API_REFERRER",
            "DATA_IMAGE",
            "DATA_INDEX",
            "DATA_INDEX_LIST",
            "DATA_ARTIFACT",
            "DATA_SUBJECT",
            "DATA_SUBJECT_MISSING",
            "DATA_ARTIFACT_LIST",
            "DATA_SUBJECT_LIST",
            "DATA_DATA_FIELD",
            "DATA_NONDISTRIBUTABLE",
            "DATA_CUSTOM_FIELDS",
            "DATA_NO_LAYERS",
            "DATA_SHA512",
        ];
        let results = Scratch::new("conformance");
        let login = server.admin_login();
        let settings = [
            ("OCI_VERSION", "dev"),
            ("OCI_REGISTRY", &server.address()),
            ("OCI_TLS", "disabled"),
            ("OCI_USERNAME", &login.user),
            ("OCI_PASSWORD", &login.password),
            ("OCI_DATA_EMPTY_BLOB", "true"),
            ("OCI_DATA_SPARSE", if is_sparse { "true" } else { "false" }),
            ("OCI_CONFIGURATION", "/dev/null"),
            ("OCI_LOG", "error"),
        ];
        let command = Cmd::new(tool("conformance")).env("OCI_RESULTS_DIR", results.path()).env("HOME", results.path());
        let command = settings.into_iter().fold(command, |command, (name, value)| command.env(name, value));
        // Its exit code says only whether a test failed; the reports say more.
        let finished = ON.iter().fold(command, |command, name| command.env(format!("OCI_{name}"), "true")).run();
        let junit = read(&results.join("junit.xml"), &finished.to_string());
        let summary = read(&results.join("results.yaml"), &finished.to_string());
        let report = Self::from_reports(&junit, &summary);
        assert!(
            finished.succeeded() || !report.not_passed.is_empty(),
            "the suite failed without a failed test: {finished}"
        );
        report
    }

    /// Panics unless everything passed; the marks of what was switched off may be as given.
    pub fn expect_all_passed(&self, disabled: &[&str]) {
        let report = self.not_passed.join("\n----\n");
        assert!(
            self.bad == 0 && self.not_passed.is_empty(),
            "{} of {} tests did not pass:\n{report}",
            self.bad,
            self.tests
        );
        assert_eq!(self.not_marked, disabled, "APIs and data sets that did not pass");
        assert!(self.tests >= 900, "only {} tests ran", self.tests);
    }

    /// Reads the contents of `junit.xml` and of `results.yaml`.
    pub fn from_reports(junit: &str, summary: &str) -> Self {
        let cases: Vec<_> = junit.split("<testcase ").skip(1).collect();
        let not_passed = cases.iter().filter(|case| attribute(case, "status") != Some("passed"));
        let not_passed = not_passed.map(|case| {
            let text = case.replace("&#xA;", "\n").replace("&#34;", "\"").replace("&lt;", "<").replace("&gt;", ">");
            text.chars().take(3000).collect()
        });
        // The suite counts groups of tests as well, which are not listed as cases.
        // It leaves out a count that is zero.
        let count = |name: &str| -> usize {
            let value = attribute(junit, name).unwrap_or("0");
            value.parse().unwrap_or_else(|_| panic!("junit.xml counts {value} {name}"))
        };
        let bad = count("failures") + count("errors") + count("skipped");
        Self { tests: count("tests"), bad, not_passed: not_passed.collect(), not_marked: marks(summary) }
    }
}

/// The value of the first attribute with this name.
fn attribute<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    xml.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

/// The lines of the sections `apis:` and `data:` that do not say `Pass`.
fn marks(summary: &str) -> Vec<String> {
    let mut is_inside = false;
    let mut found = Vec::new();
    for line in summary.lines() {
        if !line.starts_with(' ') {
            is_inside = ["apis:", "data:"].contains(&line);
        } else if is_inside && !line.ends_with(": Pass") {
            found.push(line.trim().to_owned());
        }
    }
    found
}

fn read(path: &Path, finished: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}: {finished}", path.display()))
}
