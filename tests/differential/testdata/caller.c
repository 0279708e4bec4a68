// The caller of the plugins' scripts: see the package comment of sdk/sdktest, "The caller".
#include "../../../sdk/sdktest/testdata/zsyscalls.h"
#include "../../../sdk/sdktest/testdata/caller.c"
