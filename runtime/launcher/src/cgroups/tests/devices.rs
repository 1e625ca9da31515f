//! Which devices a container may use: what version 1 is told, and what the program for version 2 answers.

use std::collections::HashMap;

use oci_spec::runtime::LinuxDeviceCgroup;
use serde_json::json;

use super::super::CgroupError;
use super::super::devices::program::{
    AND, COPY, EXIT, Instruction, JUMP_IF_EQUAL, JUMP_IF_NOT_EQUAL, LOAD_WORD, SET, SHIFT_RIGHT, compile,
};
use super::super::devices::{Exceptions, Kind, MKNOD, READ, Rule, WRITE, allow_everything, rules};

fn given(value: serde_json::Value) -> Vec<LinuxDeviceCgroup> {
    serde_json::from_value(value).unwrap()
}

fn exceptions(value: serde_json::Value) -> Result<(bool, Vec<String>), CgroupError> {
    let all = Exceptions::of(&rules(&given(value))?)?;
    Ok((all.allow_others, all.exceptions.iter().map(ToString::to_string).collect()))
}

#[test]
fn everything_is_denied_even_without_a_rule() {
    let (allow_others, list) = exceptions(json!([])).unwrap();
    assert!(!allow_others);
    assert_eq!(list.len(), 10);
    let explicit = exceptions(json!([{"allow": false, "access": "rwm"}])).unwrap();
    assert_eq!((allow_others, list), explicit);
}

#[test]
fn a_rule_for_everything_makes_the_earlier_ones_vain() {
    let first = json!({"allow": true, "type": "b", "major": 8, "minor": 0, "access": "r"});
    let (allow_others, list) = exceptions(json!([first, {"allow": true, "type": "a", "access": "rwm"}])).unwrap();
    assert_eq!((allow_others, list), (true, vec![]));
    let (_, list) = exceptions(json!([first, {"allow": false, "access": "rwm"}])).unwrap();
    assert!(!list.contains(&"b 8:0 r".to_owned()));
}

/// The kernel takes "a" with numbers for everything. That would open all devices where one was meant.
#[test]
fn any_type_with_a_number_means_both_types_and_no_more() {
    let (allow_others, list) =
        exceptions(json!([{"allow": true, "type": "a", "major": 10, "minor": 229, "access": "rw"}])).unwrap();
    assert!(!allow_others);
    assert_eq!(list[..2], ["b 10:229 rw", "c 10:229 rw"]);
}

#[test]
fn uses_of_a_device_add_up_and_are_taken_away() {
    let rule =
        |allow: bool, access: &str| json!({"allow": allow, "type": "b", "major": 8, "minor": 0, "access": access});
    let (_, list) = exceptions(json!([rule(true, "r"), rule(true, "w")])).unwrap();
    assert_eq!(list[0], "b 8:0 rw");
    let (_, list) = exceptions(json!([rule(true, "rwm"), rule(false, "w")])).unwrap();
    assert_eq!(list[0], "b 8:0 rm");
    let (_, list) =
        exceptions(json!([rule(true, "rw"), {"allow": false, "type": "b", "major": 8, "access": "rwm"}])).unwrap();
    assert!(!list.iter().any(|line| line.starts_with("b 8:")));
}

/// The kernel would take the second rule without a word and leave the device open.
#[test]
fn version_1_refuses_what_it_cannot_express() {
    let rules = json!([
        {"allow": true, "type": "b", "major": 8, "access": "rwm"},
        {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"},
    ]);
    let error = exceptions(rules).unwrap_err().to_string();
    assert!(error.starts_with("device cgroup rule `deny b 8:1 w` makes an exception to `b 8:* rwm`"), "{error}");
}

#[test]
fn rules_that_are_none_are_refused() {
    for (rule, reason) in [
        (json!({"allow": true, "type": "p", "access": "r"}), "type"),
        (json!({"allow": true, "type": "c", "access": ""}), "access field cannot be empty"),
        (json!({"allow": true, "type": "c"}), "access field cannot be empty"),
        (json!({"allow": true, "type": "c", "access": "rx"}), "other letters"),
        (json!({"allow": true, "type": "c", "major": -2, "access": "r"}), "number"),
        (json!({"allow": true, "type": "c", "major": 4294967296_u64, "access": "r"}), "number"),
    ] {
        let error = rules(&given(json!([rule]))).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn only_rules_without_any_exception_allow_everything() {
    let all = json!({"allow": true, "access": "rwm"});
    let one = json!({"allow": false, "type": "b", "major": 8, "minor": 0, "access": "w"});
    assert!(allow_everything(&rules(&given(json!([all]))).unwrap()));
    assert!(!allow_everything(&rules(&given(json!([all, one]))).unwrap()));
    assert!(!allow_everything(&rules(&given(json!([]))).unwrap()));
}

/// Runs a program as the kernel would.
fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
    let question = [access << 16 | if kind == Kind::Block { 1 } else { 2 }, major, minor];
    let mut registers: HashMap<u8, u32> = HashMap::new();
    let mut at = 0;
    for _ in 0..10_000 {
        let Instruction { code, registers: both, offset, value } = program[at];
        let (to, from, value) = (both & 15, both >> 4, value.cast_unsigned());
        at += 1;
        match code {
            LOAD_WORD => drop(registers.insert(to, question[usize::try_from(offset).unwrap() / 4])),
            SET => drop(registers.insert(to, value)),
            COPY => drop(registers.insert(to, registers[&from])),
            AND => *registers.get_mut(&to).unwrap() &= value,
            SHIFT_RIGHT => *registers.get_mut(&to).unwrap() >>= value,
            JUMP_IF_EQUAL if registers[&to] == value => at += usize::try_from(offset).unwrap(),
            JUMP_IF_NOT_EQUAL if registers[&to] != value => at += usize::try_from(offset).unwrap(),
            JUMP_IF_EQUAL | JUMP_IF_NOT_EQUAL => {}
            EXIT => return registers[&0] == 1,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
    panic!("the program does not end");
}

/// What the specification says: the last rule that matches a use decides; who asks for several needs all.
fn allowed(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
    [READ, WRITE, MKNOD].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let matches = |rule: &&Rule| {
            rule.scope.kind.is_none_or(|own| own == kind)
                && rule.scope.major.is_none_or(|own| own == major)
                && rule.scope.minor.is_none_or(|own| own == minor)
                && rule.scope.access & bit != 0
        };
        rules.iter().rev().find(matches).is_some_and(|rule| rule.allow)
    })
}

#[test]
fn the_program_answers_as_the_rules_say() {
    let lists = [
        json!([]),
        json!([{"allow": true, "access": "rwm"}]),
        json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 8, "access": "w"}]),
        json!([
            {"allow": true, "type": "b", "major": 8, "access": "rwm"},
            {"allow": false, "type": "b", "major": 8, "minor": 1, "access": "w"},
            {"allow": true, "type": "a", "minor": 2, "access": "r"},
            {"allow": true, "type": "c", "major": 10, "minor": 2, "access": "w"},
            {"allow": false, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        ]),
    ];
    let mut answers = [0, 0];
    for list in lists {
        let rules = rules(&given(list)).unwrap();
        let program = compile(&rules);
        for kind in [Kind::Block, Kind::Character] {
            for major in [0, 1, 5, 8, 10, 136] {
                for minor in 0..10 {
                    for access in 1..8 {
                        let expected = allowed(&rules, kind, major, minor, access);
                        assert_eq!(
                            run(&program, kind, major, minor, access),
                            expected,
                            "{kind:?} {major}:{minor} {access} of {rules:?}"
                        );
                        answers[usize::from(expected)] += 1;
                    }
                }
            }
        }
    }
    assert!(answers.iter().all(|count| *count > 200), "{answers:?}");
}
