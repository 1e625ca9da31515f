//! A web server in a container, reached at a published port.

use cove_tests::{Cmd, CoveEngine, Terminal, free_port, wait_until};

use super::{LIMIT, answers, id, is_clean};

#[test]
fn a_web_server_in_a_debian_image() {
    web(&CoveEngine::with_small_debian(), "debian:12", "exec python3 -u -m http.server 3000");
}

#[test]
fn a_web_server_in_a_busybox_image() {
    web(&CoveEngine::new(), "box", "echo Serving; exec httpd -f -v -p 3000");
}

fn web(engine: &CoveEngine, image: &str, serve: &str) {
    let site = engine.cove().scratch().folder("site");
    std::fs::write(site.join("index.html"), "first\n").unwrap();
    // An application and the command that it is run with.
    engine.create(["--name", "draft", image]).arg("true").ok();
    engine.words(["cp", &format!("{}/.", site.display()), "draft:/app"]).ok();
    let command = format!("CMD [\"sh\", \"-c\", \"cd /app; {serve}\"]");
    engine.words(["commit", "-c", &command, "-c", "EXPOSE 3000", "draft", "demo:0.0.1"]).limit(LIMIT).ok();
    engine.words(["rm", "draft"]).ok();
    let port = free_port();
    let get =
        |host: &str| Cmd::new("curl").args(["-s", "-m", "5", &format!("http://{host}:{port}/index.html")]).run().stdout;
    let publish = format!("{port}:3000");

    // A shell instead of the command; the server is begun by hand, and ended by Ctrl-C.
    let mut shell =
        Terminal::run(&engine.run(["--rm", "--name", "app", "-p", &publish, "-it", "demo:0.0.1", "sh"]), 120);
    shell.wait_for("# ");
    let first = id(engine, "app");
    let by_hand = format!("cd /app; ({serve})");
    shell.press(&format!("{by_hand}\r"));
    wait_until("it serves", LIMIT, || get("127.0.0.1") == "first\n");
    shell.press("\x03");
    answers(&mut shell, "echo ended-$((1 + 1))", "ended-2", 1);
    assert_eq!(get("127.0.0.1"), "", "nobody serves");
    shell.press("exit\r");
    shell.wait();
    wait_until("it went with its end", LIMIT, || engine.words(["ps", "-aq", "--filter", "name=app"]).ok().is_empty());

    // Its own command, in the background, at an address of this machine only.
    let second = engine.run(["-d", "--name", "app", "-p", &format!("127.0.0.2:{publish}"), "demo:0.0.1"]).ok();
    wait_until("it serves", LIMIT, || get("127.0.0.2") == "first\n");
    assert_eq!(get("127.0.0.1"), "", "only there");
    let listed = engine.words(["ps"]).ok();
    assert!(listed.contains(&format!("127.0.0.2:{port}->3000/tcp")), "{listed}");
    assert_eq!(engine.words(["port", "app", "3000"]).ok(), format!("127.0.0.2:{port}"));
    let address = engine.words(["container", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "app"]).ok();
    let direct = Cmd::new("curl").args(["-s", "-m", "5", &format!("http://{address}:3000/index.html")]).run();
    assert_eq!(direct.stdout, "first\n", "at the container's own address {address}");
    let mut inside = Terminal::run(&engine.words(["exec", "-it", "app", "sh"]), 80);
    inside.wait_for("# ");
    answers(&mut inside, "echo second > /app/index.html; echo written-$((1 + 1))", "written-2", 1);
    inside.press("exit\r");
    assert_eq!(inside.wait().code(), Some(0), "{}", inside.shown());
    assert_eq!(get("127.0.0.2"), "second\n");
    engine.words(["cp", "app:/app/index.html", &site.join("back").display().to_string()]).ok();
    assert_eq!(std::fs::read_to_string(site.join("back")).unwrap(), "second\n");
    engine.words(["kill", "app"]).ok();
    engine.wait_for_status("app", "Exited (137)");
    wait_until("the port is free", LIMIT, || get("127.0.0.2").is_empty());
    engine.words(["rm", "app"]).ok();

    // Files of this machine instead of those in the image, seen as they change.
    let volume = format!("{}/:/app", site.display());
    let third = engine.run(["-d", "--rm", "--name", "live", "-P", "-v", &volume, "demo:0.0.1"]).ok();
    let place = engine.words(["port", "live", "3000/tcp"]).ok();
    let place = place.lines().next().unwrap().replace("0.0.0.0", "127.0.0.1");
    let live = || Cmd::new("curl").args(["-s", "-m", "5", &format!("http://{place}/index.html")]).run().stdout;
    wait_until("it serves", LIMIT, || live() == "first\n");
    std::fs::write(site.join("index.html"), "third\n").unwrap();
    assert_eq!(live(), "third\n");
    engine.words(["stop", "-t", "0", "live"]).ok();
    wait_until("it went with its end", LIMIT, || engine.words(["ps", "-aq"]).ok().is_empty());
    is_clean(engine, &[first, second, third]);
}
