from audiozen_core.binding.arguments import build as build
from audiozen_core.binding.component_names import ComponentName as ComponentName
from audiozen_core.binding.ranges import Range as Range
from audiozen_core.binding.ranges import check_ranges as check_ranges
from audiozen_core.registry.index import installed_index as installed_index
from audiozen_core.registry.paths import resolve as resolve
