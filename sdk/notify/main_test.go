package notify_test

import (
	"testing"

	"github.com/intercede/intercede/sdk/sdktest"
)

func TestMain(m *testing.M) { sdktest.Main(m) }
