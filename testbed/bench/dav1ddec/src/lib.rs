// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Nothing: the package is there for what it depends on, which cargo builds as a plugin.
