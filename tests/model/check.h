#pragma once
// What the model tests expect of an exploration.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "tests/model/explorer.h"

namespace weft::model {

// The protocol: no interleaving is wrong, and all of them were looked at.
template <class World>
void expect_right(const World& world) {
  outcome o = explore(world);
  EXPECT_TRUE(o.right) << o.why << " after\n" << o.trace;
  EXPECT_TRUE(o.complete) << "stopped after " << o.states << " states";
  std::cout << "    " << o.states << " states\n";
}

// A mutant: some interleaving must be wrong, and for the expected reason if one is named, or the
// model could not tell the protocol from a broken one.
template <class World>
void expect_wrong(const World& world, const std::string& why = "") {
  outcome o = explore(world);
  EXPECT_FALSE(o.right) << "the mutant survived " << o.states << " states"
                        << (o.complete ? "" : " (incomplete)");
  EXPECT_NE(o.why.find(why), std::string::npos) << o.why << " after\n" << o.trace;
  if (std::getenv("WEFT_MODEL_TRACE") != nullptr) std::cout << o.why << " after\n" << o.trace;
}

// The mutant that does the opposite of one rule.
template <class World, class Rules>
void expect_mutant_wrong(Rules rules, bool Rules::*broken, const std::string& why = "") {
  rules.*broken = !(rules.*broken);
  expect_wrong(World(rules), why);
}

}  // namespace weft::model
