//! `cove volume …`: the lines and exit codes are what docker printed for the same.

#![allow(clippy::expect_used, clippy::unwrap_used)]

mod common;

use common::Home;

#[test]
fn volumes_are_made_listed_described_and_removed_as_with_docker() {
    let home = Home::new();
    assert_eq!(home.ok(&["volume", "ls"]), "DRIVER    VOLUME NAME\n");
    assert_eq!(home.ok(&["volume", "create", "--label", "a=b", "--label", "c", "v10"]), "v10\n");
    assert_eq!(home.ok(&["volume", "create", "v10"]), "v10\n");
    assert_eq!(home.ok(&["volume", "create", "-o", "type=tmpfs", "--opt", "device=tmpfs", "v9"]), "v9\n");
    let anonymous = home.ok(&["volume", "create"]).trim().to_owned();
    assert_eq!(anonymous.len(), 64);
    assert_eq!(
        home.ok(&["volume", "ls", "--filter", "name=^v"]),
        "DRIVER    VOLUME NAME\nlocal     v9\nlocal     v10\n"
    );
    assert_eq!(home.ok(&["volume", "list", "-q", "--filter", "label=a=b", "--filter", "label=c"]), "v10\n");
    assert_eq!(home.ok(&["volume", "ls", "-q", "--filter", "name=v1", "--filter", "name=v9"]), "v9\nv10\n");
    assert_eq!(home.ok(&["volume", "ls", "-q", "--filter", "driver=other"]), "");
    assert_eq!(home.ok(&["volume", "ls", "-q", "--filter", "dangling=false"]), "");
    assert_eq!(home.ok(&["volume", "ls", "-q", "--filter", "dangling=true"]).lines().count(), 3);
    let data = home.path().join("root/volumes/v10/_data").display().to_string();
    let json = format!(
        "{{\"Availability\":\"N/A\",\"Driver\":\"local\",\"Group\":\"N/A\",\"Labels\":\"a=b,c=\",\"Links\":\"N/A\",\
         \"Mountpoint\":\"{data}\",\"Name\":\"v10\",\"Scope\":\"local\",\"Size\":\"N/A\",\"Status\":\"N/A\"}}\n"
    );
    assert_eq!(home.ok(&["volume", "ls", "--format", "json", "--filter", "name=v10"]), json);

    let text = home.ok(&["volume", "inspect", "v10"]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.contains("CreatedAt")).collect();
    let mountpoint = format!("        \"Mountpoint\": \"{data}\",");
    assert_eq!(
        lines,
        [
            "[",
            "    {",
            "        \"Driver\": \"local\",",
            "        \"Labels\": {",
            "            \"a\": \"b\",",
            "            \"c\": \"\"",
            "        },",
            &mountpoint,
            "        \"Name\": \"v10\",",
            "        \"Options\": null,",
            "        \"Scope\": \"local\"",
            "    }",
            "]"
        ]
    );
    assert_eq!(home.ok(&["volume", "inspect", "-f", "{{.Name}} {{.Options.type}}", "v9"]), "v9 tmpfs\n");
    let absent = home.run(&["volume", "inspect", "nothere"]);
    assert_eq!((absent.status, absent.out.as_str()), (1, "[]\n"));
    assert_eq!(absent.error, "Error response from daemon: get nothere: no such volume\n");

    let removed = home.run(&["volume", "rm", "v9", "nothere", "v10"]);
    assert_eq!((removed.status, removed.out.as_str()), (1, "v9\nv10\n"));
    assert_eq!(removed.error, "Error response from daemon: get nothere: no such volume\n");
    assert_eq!(home.ok(&["volume", "remove", "-f", "nothere"]), "nothere\n");
    let short = home.run(&["volume", "create", "x"]);
    assert_eq!(
        (short.status, short.error.as_str()),
        (
            1,
            "Error response from daemon: create x: volume name is too short, names should be at least two \
             alphanumeric characters\n"
        )
    );
    let both = home.run(&["volume", "create", "--name", "aa", "bb"]);
    assert_eq!(both.status, 1);
    assert!(both.error.starts_with("conflicting options: cannot specify a volume-name through both --name"));
}

#[test]
fn prune_takes_those_without_a_name_unless_all_are_asked_for() {
    let home = Home::new();
    let anonymous = home.ok(&["volume", "create", "--label", "keep"]).trim().to_owned();
    home.ok(&["volume", "create", "named"]);
    std::fs::write(home.path().join("root/volumes/named/_data/file"), [0; 1500]).unwrap();
    let asked = home.run_with(&["volume", "prune"], b"n\n");
    let warning = "WARNING! This will remove anonymous local volumes not used by at least one container.\n\
                   Are you sure you want to continue? [y/N] ";
    assert_eq!((asked.status, asked.out.as_str()), (0, warning));
    assert!(home.run_with(&["volume", "prune", "-a"], b"").out.starts_with("WARNING! This will remove all local"));
    let nothing = "Total reclaimed space: 0B\n";
    assert_eq!(home.ok(&["volume", "prune", "-f", "--filter", "label!=keep"]), nothing);
    assert_eq!(home.ok(&["volume", "prune", "-f"]), format!("Deleted Volumes:\n{anonymous}\n\n{nothing}"));
    assert_eq!(home.ok(&["volume", "prune", "--force"]), nothing);
    assert_eq!(home.ok(&["volume", "prune", "-af"]), "Deleted Volumes:\nnamed\n\nTotal reclaimed space: 1.5kB\n");
    assert_eq!(home.run(&["volume", "prune", "-f", "--filter", "until=1h"]).status, 1);
}
