//! The conformance suite of the OCI distribution specification, at its development head and with a login: nothing
//! may fail, be skipped or be switched off.

use cove_tests::{Conformance, Server};

#[test]
fn the_server_conforms_as_it_comes() {
    let server = Server::start();
    Conformance::run(&server, false).expect_all_passed(&["Sparse Manifests: Disabled"]);
    server.check();
}

#[test]
fn the_server_conforms_with_sparse_images() {
    let server = Server::builder().args(["--sparse-images"]).start();
    Conformance::run(&server, true).expect_all_passed(&[]);
    server.check();
}

#[test]
fn a_report_of_a_failure_or_a_skip_is_understood() {
    let junit = r#"<testsuites time="1" tests="4" failures="1" skipped="1">
        <testsuite name="s" tests="4" failures="1" errors="0" skipped="1">
        <testcase name="a" status="passed"></testcase>
        <testcase name="b" status="failure"><system-err>no &#34;b&#34;</system-err></testcase>
        <testcase name="c" status="skipped"></testcase></testsuite></testsuites>"#;
    let summary =
        "config:\n  version: dev\napis:\n  Ping: Pass\n  Referrers: Skip\ndata:\n  Sparse Manifests: Disabled\n";
    let report = Conformance::from_reports(junit, summary);
    assert_eq!((report.tests, report.bad, report.not_passed.len()), (4, 2, 2));
    assert!(report.not_passed[0].contains(r#"no "b""#));
    assert_eq!(report.not_marked, ["Referrers: Skip", "Sparse Manifests: Disabled"]);
}
