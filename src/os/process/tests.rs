//! Children that end, are waited for, are reaped.

use super::*;

#[test]
fn a_dropped_child_is_gone() {
    let child = Child::spawn(command("sleep").arg("60")).unwrap();
    let pid = child.pid();
    assert!(start_time(pid).is_some());
    drop(child);
    assert_eq!(start_time(pid), None);
}

#[test]
fn reaping_leaves_the_status_of_a_child_to_its_waiter() {
    let mut child = Child::spawn(command("sh").args(["-c", "exit 7"])).unwrap();
    let (pid, start) = (child.pid(), start_time(child.pid()).unwrap());
    while !is_gone(pid, start) {
        std::thread::yield_now();
    }
    reap_orphans();
    assert_eq!(child.try_wait(), Some(Exit::Status(7)));
}

#[test]
fn a_process_heeds_what_it_catches() {
    let heeds_term = |script: &str| {
        let mut command = command("sh");
        let mut child =
            Child::spawn(command.args(["-c", script]).stdout(process::Stdio::piped())).unwrap();
        // It has come as far as this.
        let _ = io::Read::read(child.pipes().stdout.as_mut().unwrap(), &mut [0; 8]);
        let caught = |signal| heeds(child.pid(), signal) == Heeds::Caught;
        (caught(libc::SIGTERM), caught(libc::SIGUSR1))
    };
    assert_eq!(heeds_term("echo; sleep 60; :"), (false, false));
    assert_eq!(heeds_term("trap : TERM; echo; sleep 60; :"), (true, false));
    assert_eq!(heeds_term("trap '' USR1; echo; sleep 60; :"), (false, true));
    assert_eq!(heeds(0, libc::SIGTERM), Heeds::Caught);
}

#[test]
fn exit_tells_a_signal_from_a_status() {
    let mut child = Child::spawn(command("sleep").arg("60")).unwrap();
    assert_eq!(child.try_wait(), None);
    assert_eq!(child.kill(), Some(Exit::Signal(9)));
    assert_eq!(child.try_wait(), Some(Exit::Signal(9)));
    let mut child = Child::spawn(command("sh").args(["-c", "exit 7"])).unwrap();
    while child.try_wait().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(child.try_wait(), Some(Exit::Status(7)));
}

#[test]
fn waiting_for_an_unkillable_process_has_a_limit() {
    // The kill goes to the group, so without one of its own the child does not receive it.
    let mut ours = ours();
    let started = command("sleep").arg("60").spawn().unwrap();
    ours.push(started.id());
    drop(ours);
    let mut child = Child { child: started, exit: None, leads: true, undying: false };
    let (pid, start) = (child.pid(), start_time(child.pid()).unwrap());
    assert!(!is_gone(pid, start) && is_gone(pid, start + 1));
    let since = Instant::now();
    assert_eq!(child.kill_within(Duration::from_millis(200)), None);
    assert!(since.elapsed() >= Duration::from_millis(200));
    // It is not waited for a second time.
    let since = Instant::now();
    assert_eq!(child.kill(), None);
    assert!(since.elapsed() < Duration::from_secs(5));
    sys::kill(pid as i32, libc::SIGKILL).unwrap();
    while child.try_wait().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(child.kill(), Some(Exit::Signal(9)));
    assert!(is_gone(pid, start));
}
