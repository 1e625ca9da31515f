//! What administrators do to a world: at its beginning, and between requests.

use super::asking::{Operation, Reference};
use super::content::{BLOBS, MANIFESTS, TAGS};
use super::reference::{Account, Action, Grant, Limits, Shown, Who};
use super::world::{NAMES, PATTERNS, PersonalToken};
use super::{Change, Subject, World};

impl World {
    pub(super) fn populate(&mut self, subject: &mut impl Subject) {
        for (name, robot, administrator) in [
            ("ann", false, false),
            ("ben", false, false),
            ("cat", false, false),
            ("chief", false, true),
            ("rob", true, false),
            ("bot", true, false),
        ] {
            self.add_account(name, robot, administrator, subject);
        }
        for _ in 0..12 {
            self.grant(subject);
            self.create_token(subject);
        }
        for name in NAMES {
            if self.dice.percent(70) {
                self.fill(name, subject);
            }
        }
        for _ in 0..4 {
            self.set_visibility(subject);
        }
    }

    /// Pushes something as the administrator.
    fn fill(&mut self, name: &str, subject: &mut impl Subject) {
        let admin = Shown::Basic(Who { account: Some(0), limits: None });
        let authorization = Some(super::world::basic("admin", &self.admin_password));
        let mut push = |world: &mut World, operation: Operation| {
            world.perform(&operation, &admin, authorization.clone(), subject);
        };
        let first = self.dice.within(0..MANIFESTS.len() as u64) as usize;
        for manifest in [first, (first + 1) % MANIFESTS.len()] {
            for blob in MANIFESTS[manifest].needs {
                push(self, Operation::Whole { name: name.to_owned(), blob });
            }
            let tag = self.some(&TAGS).to_owned();
            push(self, Operation::ManifestPut { name: name.to_owned(), reference: Reference::Tag(tag), manifest });
        }
    }

    pub(super) fn change(&mut self, subject: &mut impl Subject) {
        self.counts.changes += 1;
        match self.dice.within(0..100) {
            0..20 => self.grant(subject),
            20..35 => self.revoke(subject),
            35..48 => self.set_disabled(subject),
            48..53 => self.set_password(subject),
            53..66 => self.create_token(subject),
            66..76 => self.revoke_token(subject),
            76..92 => self.set_visibility(subject),
            92..95 => self.remove_repository(subject),
            _ => self.replace_account(subject),
        }
    }

    fn tell(&mut self, change: Change, subject: &mut impl Subject) -> String {
        self.note(format!("{change:?}"));
        subject.change(&change)
    }

    fn add_account(&mut self, name: &str, robot: bool, administrator: bool, subject: &mut impl Subject) {
        let name = name.to_owned();
        self.accounts.push(Account {
            name: name.clone(),
            robot,
            administrator,
            disabled: false,
            removed: false,
            password: self.accounts.len() as u32 * 1000, // another one than a namesake had before
        });
        let last = self.accounts.len() - 1;
        let password = self.password(last, self.accounts[last].password);
        self.tell(Change::AddAccount { name, robot, administrator, password }, subject);
    }

    /// Removes an account, and makes another one of that name, which is somebody else.
    fn replace_account(&mut self, subject: &mut impl Subject) {
        let index = self.some(&self.present());
        let Account { name, robot, administrator, .. } = self.accounts[index].clone();
        self.tell(Change::RemoveAccount { name: name.clone() }, subject);
        self.accounts[index].removed = true;
        self.grants.retain(|grant| grant.to != Some(index));
        self.add_account(&name, robot, administrator, subject);
    }

    fn set_disabled(&mut self, subject: &mut impl Subject) {
        let index = self.some(&self.present());
        // More come in again than are locked out, lest nobody be left.
        let disabled = self.dice.percent(35);
        self.accounts[index].disabled = disabled;
        let name = self.accounts[index].name.clone();
        self.tell(Change::SetDisabled { name, disabled }, subject);
    }

    fn set_password(&mut self, subject: &mut impl Subject) {
        let index = self.some(&self.present());
        if self.accounts[index].robot {
            return;
        }
        self.accounts[index].password += 1;
        let password = self.password(index, self.accounts[index].password);
        self.tell(Change::SetPassword { name: self.accounts[index].name.clone(), password }, subject);
    }

    fn some_pattern(&mut self) -> String {
        match self.dice.percent(50) {
            true => self.some(&PATTERNS).to_owned(),
            false => self.some_name(),
        }
    }

    fn grant(&mut self, subject: &mut impl Subject) {
        let to = match self.dice.percent(20) {
            true => None,
            false => Some(self.some(&self.present())),
        };
        let pattern = self.some_pattern();
        let level = match to {
            None => self.some(&Action::ALL).min(self.some(&Action::ALL)),
            Some(_) => self.some(&Action::ALL),
        };
        // A grant takes the place of the one before on the same pattern.
        self.grants.retain(|grant| grant.to != to || grant.pattern != pattern);
        self.grants.push(Grant { to, pattern: pattern.clone(), level });
        let to = to.map(|index| self.accounts[index].name.clone());
        self.tell(Change::Grant { to, pattern, level }, subject);
    }

    fn revoke(&mut self, subject: &mut impl Subject) {
        if self.grants.len() < 5 {
            return;
        }
        let index = self.dice.within(0..self.grants.len() as u64) as usize;
        let Grant { to, pattern, .. } = self.grants.swap_remove(index);
        let to = to.map(|index| self.accounts[index].name.clone());
        self.tell(Change::Revoke { to, pattern }, subject);
    }

    fn create_token(&mut self, subject: &mut impl Subject) {
        let owner = match self.dice.percent(10) {
            true => 0,
            false => self.some(&self.present()),
        };
        let limits = self.dice.percent(60).then(|| {
            let limit = |world: &mut World| {
                let chosen = Action::ALL.into_iter().filter(|_| world.dice.percent(50)).collect::<Vec<_>>();
                let actions = if chosen.is_empty() { vec![Action::Pull] } else { chosen };
                (world.some_pattern(), actions)
            };
            let count = self.dice.within(1..4);
            Limits { repositories: (0..count).map(|_| limit(self)).collect(), catalog: self.dice.percent(50) }
        });
        let expired = self.dice.percent(10);
        let (account, name) = (self.accounts[owner].name.clone(), format!("token-{}", self.tokens.len()));
        let change = Change::CreateToken { account, name: name.clone(), limits: limits.clone(), expired };
        let secret = self.tell(change, subject);
        self.tokens.push(PersonalToken { owner, name, limits, secret, counts: !expired });
    }

    fn revoke_token(&mut self, subject: &mut impl Subject) {
        let there = |index: &usize| self.tokens[*index].counts && !self.accounts[self.tokens[*index].owner].removed;
        let tokens: Vec<usize> = (0..self.tokens.len()).filter(there).collect();
        if tokens.len() < 4 {
            return;
        }
        let index = self.some(&tokens);
        self.tokens[index].counts = false;
        let (owner, name) = (self.tokens[index].owner, self.tokens[index].name.clone());
        self.tell(Change::RevokeToken { account: self.accounts[owner].name.clone(), name }, subject);
    }

    fn set_visibility(&mut self, subject: &mut impl Subject) {
        let (repository, public) = (self.some_name(), self.dice.percent(40));
        self.ensure(&repository).public = public;
        self.tell(Change::SetVisibility { repository, public }, subject);
    }

    fn remove_repository(&mut self, subject: &mut impl Subject) {
        let names: Vec<String> = self.repositories.keys().cloned().collect();
        if names.len() < 6 {
            return;
        }
        let repository = self.some(&names);
        self.repositories.remove(&repository);
        self.uploads.retain(|upload| upload.repository != repository);
        self.tell(Change::RemoveRepository { repository }, subject);
    }

    /// A blob, by number.
    pub(super) fn some_blob(&mut self) -> usize {
        self.dice.within(0..BLOBS.len() as u64) as usize
    }
}
