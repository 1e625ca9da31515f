//! `cove system service`: the unit as systemd reads it, where it lies and how it goes.

use cove_tests::clients::Cove;
use cove_tests::{Cmd, Scratch};

fn verify(scratch: &Scratch, text: &str, words: &[&str]) {
    let unit = scratch.write("cove.service", text);
    let verified = Cmd::new("systemd-analyze").args(words).args(["verify", "--man=no"]).arg(&unit).run();
    assert!(verified.succeeded(), "{verified}");
    let about_us: Vec<_> = verified.stderr.lines().filter(|line| line.contains("cove.service")).collect();
    assert!(about_us.is_empty(), "{about_us:?}");
}

#[test]
fn systemd_accepts_the_unit() {
    let (cove, scratch) = (Cove::new(), Scratch::new("unit"));
    let text = cove.words(["system", "service", "--print"]).ok();
    verify(&scratch, &text, &[]);
    for line in ["WantedBy=multi-user.target", "Type=notify", "KillMode=process"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert!(start.starts_with(&Cove::program().display().to_string()) && start.ends_with(" system watch"), "{start}");
    assert!(
        start.contains(&format!("--root {}", cove.root().display())),
        "places that are not the usual ones: {start}"
    );
    let text = cove.words(["system", "service", "--print", "--user"]).ok();
    assert!(text.contains("WantedBy=default.target"), "{text}");
    // Folders that systemd would read otherwise.
    let strange = Scratch::new("a strange %n $HOME");
    let strange = Cove::with_root(&strange.join("root \"x\""));
    verify(&scratch, &strange.words(["system", "service", "--print"]).ok(), &[]);
}

#[test]
fn the_unit_is_written_and_removed() {
    let cove = Cove::new();
    let unit = cove.scratch().join(".config/systemd/user/cove.service");
    let service = |words: &[&str]| cove.words(["system", "service", "--user"]).args(words);
    let written = service(&[]).run();
    assert_eq!(written.stdout, format!("Created {}\n", unit.display()), "{written}");
    let advice = ["systemctl --user daemon-reload && systemctl --user enable --now cove", "loginctl enable-linger"];
    assert!(advice.iter().all(|words| written.stderr.contains(words)), "{written}");
    assert_eq!(std::fs::read_to_string(&unit).unwrap().trim(), service(&["--print"]).ok());
    service(&[]).ok();
    assert!(service(&["--print", "--remove"]).fails().contains("--print and --remove"));
    assert_eq!(service(&["--remove"]).ok(), format!("Removed {}", unit.display()));
    assert!(!unit.exists());
    assert!(service(&["--remove"]).fails().contains("nothing to remove"));
    std::fs::write(&unit, "[Unit]\n").unwrap();
    for words in [&[][..], &["--remove"]] {
        assert!(service(words).fails().contains("was not written by this command"));
    }
    assert_eq!(std::fs::read_to_string(&unit).unwrap(), "[Unit]\n");

    // That of the system, where nobody else sees it.
    let script =
        "mount -t tmpfs none /etc/systemd/system && \"$0\" system service && cat /etc/systemd/system/cove.service";
    let seen = cove.run_as("unshare", ["--mount", "sh", "-c", script]).arg(Cove::program()).run();
    assert!(seen.stdout.starts_with("Created /etc/systemd/system/cove.service\n# Written by `cove"), "{seen}");
    assert!(seen.stderr.contains("Now: systemctl daemon-reload && systemctl enable --now cove"), "{seen}");
}
