// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads as much of a Rust file as its imports need: words, signs and the text of strings, then modules,
//! items and paths. It follows the language's rules of where a file of a module is, and expands no macro.

use std::collections::{BTreeMap, BTreeSet};

/// A piece of a source file. Comments, lifetimes and characters are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A word: an identifier, a keyword or a number.
    Word(&'a str),
    /// The text between the quotes of a string.
    Text(&'a str),
    /// `::`
    Path,
    /// Any other sign.
    Sign(char),
}

/// Splits a source file into tokens.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        at += if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some((length, inside)) = string(rest) {
            found.push(Token::Text(inside));
            length
        } else if c == '\'' {
            character(rest)
        } else if is_word(c) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            found.push(Token::Word(&rest[..length]));
            length
        } else if rest.starts_with("::") {
            found.push(Token::Path);
            2
        } else {
            if !c.is_whitespace() {
                found.push(Token::Sign(c));
            }
            c.len_utf8()
        };
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the block comment that a text begins with; such comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            match rest.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => return at,
            }
        }
    }
}

/// Returns the length of the string that a text begins with, and the text inside its quotes.
fn string(text: &str) -> Option<(usize, &str)> {
    let after_kind = text.trim_start_matches(['b', 'c']);
    if text.len() - after_kind.len() > 1 {
        return None;
    }
    let raw = after_kind.strip_prefix('r');
    let after_hashes = raw.map_or(after_kind, |rest| rest.trim_start_matches('#'));
    let body = after_hashes.strip_prefix('"')?;
    let begin = text.len() - body.len();
    let length = match raw {
        Some(rest) => {
            let end = format!("\"{}", "#".repeat(rest.len() - after_hashes.len()));
            let inside = body.find(&end).unwrap_or(body.len());
            return Some(((begin + inside + end.len()).min(text.len()), &body[..inside]));
        }
        None => {
            let mut escaped = false;
            body.find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })
        }
    };
    let inside = length.unwrap_or(body.len());
    Some(((begin + inside + 1).min(text.len()), &body[..inside]))
}

/// Returns the length of the character or the lifetime that a text begins with.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // The escaped character may be a quote itself.
            let after = chars.next().map_or(text.len(), |(at, c)| at + c.len_utf8());
            text[after..].find('\'').map_or(text.len(), |end| after + end + 1)
        }
        Some((_, c)) if chars.next().is_some_and(|(_, next)| next == '\'') => c.len_utf8() + 2,
        _ => 1 + text[1..].find(|c| !is_word(c)).unwrap_or(text.len() - 1),
    }
}

/// An import: `use path as name`, or `use path::*` without a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Use {
    /// The segments of the path.
    pub(crate) path: Vec<String>,
    /// The name in the module that imports; none for `*`.
    pub(crate) name: Option<String>,
}

/// A module: a file, or a part of one between braces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Module {
    /// Its file.
    pub(crate) file: String,
    /// The module around it, by its place in [`Tree`]; none for the crate's root.
    pub(crate) parent: Option<usize>,
    /// The modules in it.
    pub(crate) children: BTreeMap<String, usize>,
    /// The items that it defines.
    pub(crate) items: BTreeSet<String>,
    /// Its imports, those in its functions among them.
    pub(crate) uses: Vec<Use>,
    /// Paths of two segments and more that its code names, each once.
    pub(crate) paths: BTreeSet<Vec<String>>,
}

impl Module {
    /// Returns whether a path begins in this crate, as far as this module tells. What another glob import
    /// brings does not count: two globs of other crates would look for each other's names without end.
    fn begins(&self, path: &[String]) -> bool {
        let Some(first) = path.first() else { return false };
        matches!(first.as_str(), "crate" | "self" | "super")
            || self.children.contains_key(first)
            || self.items.contains(first)
            || self.uses.iter().any(|import| import.name.as_ref() == Some(first))
    }
}

/// The modules of a crate, the root first.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The modules.
    pub(crate) modules: Vec<Module>,
}

impl Tree {
    /// Reads a crate from its root file on; `files` has the text of every file by name.
    pub(crate) fn read(root: &str, files: &BTreeMap<String, String>) -> Self {
        let mut tree = Self::default();
        let (dir, _) = split(root);
        tree.file(root, dir.to_owned(), None, files);
        tree
    }

    /// Adds the module of a file, whose modules' files are in `dir`.
    fn file(
        &mut self,
        name: &str,
        dir: String,
        parent: Option<usize>,
        files: &BTreeMap<String, String>,
    ) -> usize {
        let number = self.module(name, parent);
        if let Some(text) = files.get(name) {
            let tokens = tokens(text);
            Reader {
                tree: self,
                files,
                tokens: &tokens,
                at: 0,
                place: None,
                open: vec![Some((number, dir))],
            }
            .read();
        }
        number
    }

    fn module(&mut self, file: &str, parent: Option<usize>) -> usize {
        self.modules.push(Module {
            file: file.to_owned(),
            parent,
            ..Module::default()
        });
        self.modules.len() - 1
    }

    /// Finds the modules that a path leads to, seen from a module: the one that defines its end, and those
    /// that only import it from there. The root's imports are the crate's face and count for nothing. Empty
    /// for paths that lead out of the crate.
    pub(crate) fn resolve(&self, from: usize, path: &[String]) -> BTreeSet<usize> {
        let mut through = BTreeSet::new();
        let Some(end) = self.follow(from, path, 16, &mut through) else {
            return BTreeSet::new();
        };
        through.remove(&0);
        through.remove(&from);
        through.insert(end);
        through
    }

    fn follow(
        &self,
        from: usize,
        path: &[String],
        depth: usize,
        through: &mut BTreeSet<usize>,
    ) -> Option<usize> {
        let depth = depth.checked_sub(1)?;
        let (mut at, mut rest) = (from, path);
        let mut inside = false;
        while let Some((first, after)) = rest.split_first() {
            let module = &self.modules[at];
            match first.as_str() {
                "crate" => at = 0,
                "self" => {}
                "super" => at = module.parent?,
                name => {
                    if let Some(child) = module.children.get(name) {
                        at = *child;
                    } else if module.items.contains(name) {
                        return Some(at);
                    } else if let Some(found) = self.imported(at, name, after, depth, through) {
                        through.insert(at);
                        return Some(found);
                    } else {
                        // A variant, an associated item, a name that a macro makes or that another crate has.
                        return inside.then_some(at);
                    }
                }
            }
            (inside, rest) = (true, after);
        }
        Some(at)
    }

    /// Finds the module that defines what `name::after` stands for by an import of a module.
    fn imported(
        &self,
        at: usize,
        name: &str,
        after: &[String],
        depth: usize,
        through: &mut BTreeSet<usize>,
    ) -> Option<usize> {
        let module = &self.modules[at];
        for import in module.uses.iter().filter(|import| import.name.is_some()) {
            // `use name::name` would lead back here.
            if import.name.as_deref() == Some(name) && import.path.first().is_none_or(|first| first != name) {
                let whole: Vec<String> = import.path.iter().chain(after).cloned().collect();
                return self.follow(at, &whole, depth, through);
            }
        }
        let globs = module.uses.iter().filter(|import| import.name.is_none());
        for import in globs.filter(|import| module.begins(&import.path)) {
            let found = self.follow(at, &import.path, depth, through);
            if let Some(found) = found.filter(|found| *found != at) {
                let inside = &self.modules[found];
                if inside.items.contains(name) || inside.children.contains_key(name) {
                    let whole: Vec<String> = std::iter::once(name.to_owned())
                        .chain(after.iter().cloned())
                        .collect();
                    return self.follow(found, &whole, depth, through);
                }
            }
        }
        None
    }
}

/// Splits a file's name into its directory and the rest.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// Puts a relative path after a directory, without `.` and `..` in what comes out.
fn joined(dir: &str, path: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A module that is being read and the directory of its modules' files; none for other braces.
type Open = Option<(usize, String)>;

struct Reader<'a> {
    tree: &'a mut Tree,
    files: &'a BTreeMap<String, String>,
    tokens: &'a [Token<'a>],
    at: usize,
    /// The path of the last `#[path = "…"]`.
    place: Option<String>,
    open: Vec<Open>,
}

impl<'a> Reader<'a> {
    fn peek(&self, ahead: usize) -> Option<Token<'a>> {
        self.tokens.get(self.at + ahead).copied()
    }

    fn word(&self, ahead: usize) -> Option<&'a str> {
        match self.peek(ahead) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// Returns the innermost module and the directory of its modules' files.
    fn innermost(&self) -> (usize, &str) {
        let innermost = self.open.iter().rev().flatten().next();
        innermost.map_or((0, ""), |(module, dir)| (*module, dir))
    }

    /// Returns the innermost module.
    fn current(&mut self) -> &mut Module {
        let (module, _) = self.innermost();
        &mut self.tree.modules[module]
    }

    fn read(&mut self) {
        while let Some(token) = self.peek(0) {
            match token {
                Token::Sign('{') => self.open.push(None),
                // The file itself stays open.
                Token::Sign('}') if self.open.len() > 1 => drop(self.open.pop()),
                Token::Word("path") if self.is_attribute() => {
                    if let Some(Token::Text(text)) = self.peek(2) {
                        self.place = Some(text.to_owned());
                    }
                }
                Token::Word("mod") if self.word(1).is_some() => self.module(),
                Token::Word("use") if self.peek(1) != Some(Token::Sign('<')) => {
                    self.at += 1;
                    let mut found = Vec::new();
                    self.import(&[], &mut found);
                    self.current().uses.extend(found);
                    continue;
                }
                Token::Word(word) => self.other(word),
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Returns true at the name of `#[name = …]`.
    fn is_attribute(&self) -> bool {
        self.tokens[..self.at].ends_with(&[Token::Sign('#'), Token::Sign('[')])
            && self.peek(1) == Some(Token::Sign('='))
    }

    /// Reads `mod name;` or `mod name {`.
    fn module(&mut self) {
        let name = self.word(1).unwrap_or_default().to_owned();
        let (parent, dir) = self.innermost();
        let dir = dir.to_owned();
        let place = self.place.take();
        let child = match self.peek(2) {
            Some(Token::Sign('{')) => {
                let file = self.tree.modules[parent].file.clone();
                let child = self.tree.module(&file, Some(parent));
                self.open.push(Some((child, joined(&dir, &name))));
                child
            }
            Some(Token::Sign(';')) => {
                let (file, inner) = match place {
                    Some(place) => {
                        let file = joined(split(&self.tree.modules[parent].file).0, &place);
                        let inner = split(&file).0.to_owned();
                        (file, inner)
                    }
                    None => {
                        let inner = joined(&dir, &name);
                        let nested = format!("{inner}/mod.rs");
                        let beside = format!("{inner}.rs");
                        let file = if self.files.contains_key(&nested) {
                            nested
                        } else {
                            beside
                        };
                        (file, inner)
                    }
                };
                self.tree.file(&file, inner, Some(parent), self.files)
            }
            _ => return,
        };
        self.tree.modules[parent].children.insert(name, child);
        self.at += 2;
    }

    /// Reads a tree of imports after the segments `before`, up to the sign that ends it.
    fn import(&mut self, before: &[String], found: &mut Vec<Use>) {
        let mut path = before.to_vec();
        let mut name = None;
        while let Some(token) = self.peek(0) {
            match token {
                Token::Word("as") => {
                    name = self.word(1).map(str::to_owned);
                    self.at += 1;
                }
                Token::Word(word) => path.push(word.to_owned()),
                Token::Path => {}
                Token::Sign('*') => {
                    found.push(Use { path, name: None });
                    self.at += 1;
                    return;
                }
                Token::Sign('{') => {
                    self.at += 1;
                    while !matches!(self.peek(0), Some(Token::Sign('}')) | None) {
                        let begin = self.at;
                        self.import(&path, found);
                        // A sign that is no part of a tree, as in a macro, is passed over like a comma.
                        if self.peek(0) == Some(Token::Sign(',')) || self.at == begin {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                _ => break,
            }
            self.at += 1;
        }
        if path.len() > before.len() {
            if path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let name = name.or_else(|| path.last().cloned());
            found.push(Use { path, name });
        }
    }

    /// Reads an item's name or a path.
    fn other(&mut self, word: &str) {
        if matches!(self.open.last(), Some(Some(_))) {
            let name = match word {
                "macro_rules" => self.word(2),
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" => self.word(1),
                _ => None,
            };
            if let Some(name) = name {
                self.current().items.insert(name.to_owned());
            }
        }
        if self.peek(1) != Some(Token::Path) {
            return;
        }
        let mut path = vec![word.to_owned()];
        while self.peek(1) == Some(Token::Path) {
            let Some(next) = self.word(2) else { break };
            path.push(next.to_owned());
            self.at += 2;
        }
        if path.len() > 1 {
            self.current().paths.insert(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_characters_are_no_words() {
        let text = "a // b\n/* c /* d */ e */ \"f \\\" g\" r#\"h\"i\"# b'j' '\\'' 'k' &'l m";
        let words: Vec<Token<'_>> = tokens(text)
            .into_iter()
            .filter(|token| matches!(token, Token::Word(_)))
            .collect();
        assert_eq!(words, [Token::Word("a"), Token::Word("b"), Token::Word("m")]);
        let texts: Vec<Token<'_>> = tokens(text)
            .into_iter()
            .filter(|token| matches!(token, Token::Text(_)))
            .collect();
        assert_eq!(texts, [Token::Text("f \\\" g"), Token::Text("h\"i")]);
    }

    fn files(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(name, text)| ((*name).into(), (*text).into()))
            .collect()
    }

    fn path(text: &str) -> Vec<String> {
        text.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn trees_of_imports_are_taken_apart() {
        let tree = Tree::read(
            "src/lib.rs",
            &files(&[(
                "src/lib.rs",
                "use a::{self, b::{C, D as E}, f::*}; pub(crate) use g;",
            )]),
        );
        let shown: Vec<String> = tree.modules[0]
            .uses
            .iter()
            .map(|import| {
                format!(
                    "{} {}",
                    import.path.join("::"),
                    import.name.as_deref().unwrap_or("*")
                )
            })
            .collect();
        assert_eq!(shown, ["a a", "a::b::C C", "a::b::D E", "a::f *", "g g"]);
    }

    #[test]
    fn files_of_modules_are_where_the_language_has_them() {
        let tree = Tree::read(
            "src/lib.rs",
            &files(&[
                (
                    "src/lib.rs",
                    "mod a; mod b { mod c; } #[path = \"../x/d.rs\"] mod d;",
                ),
                ("src/a.rs", "mod e;"),
                ("src/a/e.rs", ""),
                ("src/b/c/mod.rs", "mod f;"),
                ("src/b/c/f.rs", ""),
                ("x/d.rs", "mod g;"),
                ("x/g.rs", ""),
            ]),
        );
        let names: Vec<&str> = tree.modules.iter().map(|module| module.file.as_str()).collect();
        let all = [
            "src/lib.rs",
            "src/a.rs",
            "src/a/e.rs",
            "src/lib.rs",
            "src/b/c/mod.rs",
            "src/b/c/f.rs",
            "x/d.rs",
            "x/g.rs",
        ];
        assert_eq!(names, all);
    }

    #[test]
    fn a_path_leads_to_the_file_that_defines_its_end() {
        let tree = Tree::read(
            "src/lib.rs",
            &files(&[
                (
                    "src/lib.rs",
                    "mod a; mod b; pub use a::Item; use b::*; pub fn own() { let x = 1; }",
                ),
                ("src/a.rs", "pub struct Item; use std::fmt;"),
                ("src/b.rs", "pub enum Kind { One } use super::Item;"),
            ]),
        );
        let file = |from: usize, text: &str| {
            let found = tree.resolve(from, &path(text));
            let files: Vec<&str> = found
                .iter()
                .map(|found| tree.modules[*found].file.as_str())
                .collect();
            files.join(" ")
        };
        assert_eq!(file(2, "super::Item"), "src/a.rs");
        assert_eq!(file(2, "Item::new"), "src/a.rs");
        assert_eq!(file(1, "crate::Kind::One"), "src/b.rs");
        assert_eq!(file(1, "crate::own"), "src/lib.rs");
        assert_eq!(file(0, "b::Item"), "src/a.rs src/b.rs");
        assert_eq!(file(1, "fmt::Display"), "");
        assert_eq!(file(1, "std::fmt"), "");
    }
}
