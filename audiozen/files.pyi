from audiozen_core.storage.append import LineFile as LineFile
from audiozen_core.storage.atomic import make_folder as make_folder
from audiozen_core.storage.atomic import write_whole as write_whole
