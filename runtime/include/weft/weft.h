#pragma once
// The core of weft in one include: running tasks and the primitives between them.
#include <weft/blocking.h>
#include <weft/chan.h>
#include <weft/condition_variable.h>
#include <weft/deadlock.h>
#include <weft/error.h>
#include <weft/labels.h>
#include <weft/mutex.h>
#include <weft/run.h>
#include <weft/select.h>
#include <weft/task.h>
#include <weft/time.h>
#include <weft/wait_group.h>
