package mount

import "strings"

// filesystem says which options of a filesystem a container may give: the kernel reads them with privilege.
type filesystem struct {
	name          string
	driver        string          // the type that the kernel is asked for
	listed        bool            // it has a table below
	harmless      map[string]bool // these concern the filesystem alone
	refused       map[string]bool // these name another device, path or descriptor, or harm the host
	refusedValues map[string]string
	// uids and gids are options whose value is an id, which the kernel takes for one of the host.
	uids, gids []string
	// added are options for safety, added where none of the same key is given.
	added []option
	// owned filesystems have no owners: all files are the mounting task's.
	owned bool
	// anonymous filesystems have no device number of a device (stat(2), st_dev).
	anonymous bool
}

// neverWrite are filesystems whose drivers have no code that writes to the device.
var neverWrite = set("cramfs erofs iso9660 romfs squashfs")

// genericOptions are those of every superblock (common_set_sb_flag, common_clear_sb_flag, fs/fs_context.c).
var genericOptions = set("ro rw sync async dirsync lazytime nolazytime mand nomand")

func set(words string) map[string]bool {
	m := map[string]bool{}
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

const (
	quotaOptions = " quota noquota usrquota grpquota prjquota "
	fatOptions   = " allow_utime check codepage discard dmask dos1xfloppy dots dotsOK errors fat flush fmask gid iocharset nfs nodots nonumtail" +
		" posix quiet rodir shortname showexec sys_immutable time_offset tz uid umask uni_xlate usefree utf8 "
)

// extFilesystem is ext2, ext3 or ext4. What to do on an error is in the superblock too, which the container writes: a
// panic of the host, for example.
func extFilesystem() filesystem {
	return filesystem{
		harmless: set(quotaOptions + `acl noacl user_xattr nouser_xattr bsddf minixdf grpid bsdgroups nogrpid sysvgroups resuid resgid sb errors
			nouid32 oldalloc orlov barrier nobarrier commit min_batch_time max_batch_time delalloc nodelalloc data data_err
			journal_checksum nojournal_checksum journal_async_commit journal_ioprio noload norecovery dioread_lock
			dioread_nolock nodioread_nolock i_version stripe discard nodiscard init_itable noinit_itable
			inode_readahead_blks auto_da_alloc noauto_da_alloc jqfmt usrjquota grpjquota block_validity
			max_dir_size_kb nombcache no_mbcache check nocheck reservation noreservation bh nobh mblk_io_submit nomblk_io_submit
			mb_optimize_scan prefetch_block_bitmaps no_prefetch_block_bitmaps fc_debug_max_replay`),
		refused:       set("journal_dev journal_path journal test_dummy_encryption abort debug"),
		refusedValues: map[string]string{"errors": "panic"},
		uids:          []string{"resuid"}, gids: []string{"resgid"},
		added: []option{{"errors", "remount-ro", true}},
	}
}

// knownFilesystems are those that have a table.
func knownFilesystems() map[string]filesystem {
	known := map[string]filesystem{
		"ext2": extFilesystem(), "ext3": extFilesystem(), "ext4": extFilesystem(),
		"xfs": {
			harmless: set(quotaOptions + `allocsize attr2 noattr2 discard nodiscard grpid bsdgroups nogrpid sysvgroups filestreams ikeep noikeep
				inode32 inode64 largeio nolargeio logbufs logbsize noalign norecovery nouuid uquota uqnoenforce qnoenforce
				gquota gqnoenforce pquota pqnoenforce sunit swidth swalloc wsync lifetime`),
			refused: set("logdev rtdev"),
		},
		"btrfs": {
			harmless: set(`acl noacl autodefrag noautodefrag barrier nobarrier clear_cache commit compress compress-force
				datacow nodatacow datasum nodatasum degraded discard nodiscard flushoncommit noflushoncommit max_inline
				metadata_ratio norecovery nologreplay notreelog treelog rescan_uuid_tree rescue skip_balance space_cache
				nospace_cache ssd nossd ssd_spread nossd_spread subvol subvolid thread_pool user_subvol_rm_allowed usebackuproot`),
			refused:   set("device fatal_errors check_int check_int_data check_int_print_mask fragment ref_verify enospc_debug"),
			anonymous: true,
		},
		"squashfs": {
			harmless:      set("errors threads"),
			refusedValues: map[string]string{"errors": "panic"},
		},
		"erofs": {
			harmless: set("user_xattr nouser_xattr acl noacl cache_strategy fsoffset"),
			refused:  set("device fsid domain_id"),
		},
		"iso9660": {
			harmless: set(`map nomap norock nojoliet unhide showassoc hide cruft utf8 iocharset check session sbsector block conv
				mode dmode uid gid overriderockperm`),
			uids: []string{"uid"}, gids: []string{"gid"},
		},
		"udf": {
			harmless: set(`novrs bs unhide undelete noadinicb adinicb shortad longad strict uid gid umask iocharset utf8 session
				lastblock anchor mode dmode volume partition fileset rootdir`),
			uids: []string{"uid"}, gids: []string{"gid"},
		},
		"exfat": {
			harmless: set(`uid gid umask dmask fmask allow_utime iocharset errors discard keep_last_dots sys_tz time_offset
				zero_size_dir utf8 debug namecase codepage`),
			refusedValues: map[string]string{"errors": "panic"},
			uids:          []string{"uid"}, gids: []string{"gid"}, owned: true,
		},
		"ntfs3": {
			harmless: set(`uid gid umask dmask fmask sys_immutable discard force sparse nohidden hidden hide_dot_files windows_names
				showmeta iocharset nls prealloc nocase delalloc acl noacl`),
			uids: []string{"uid"}, gids: []string{"gid"}, owned: true,
		},
		"f2fs": {
			harmless: set(quotaOptions + `background_gc disable_roll_forward norecovery discard nodiscard heap no_heap user_xattr nouser_xattr acl noacl
				active_logs disable_ext_identify inline_xattr noinline_xattr inline_xattr_size inline_data noinline_data
				inline_dentry noinline_dentry flush_merge noflush_merge barrier nobarrier fastboot extent_cache noextent_cache
				data_flush reserve_root resuid resgid mode usrjquota grpjquota jqfmt alloc_mode fsync_mode checkpoint
				checkpoint_merge nocheckpoint_merge compress_algorithm compress_log_size compress_extension
				nocompress_extension compress_chksum compress_mode compress_cache atgc gc_merge nogc_merge discard_unit memory
				age_extent_cache errors nat_bits lookup_mode`),
			refused:       set("fault_injection fault_type test_dummy_encryption"),
			refusedValues: map[string]string{"errors": "panic"},
			uids:          []string{"resuid"}, gids: []string{"resgid"},
		},
	}
	for _, name := range []string{"vfat", "msdos"} {
		known[name] = filesystem{
			harmless:      set(fatOptions),
			refused:       set("debug"),
			refusedValues: map[string]string{"errors": "panic"},
			uids:          []string{"uid"}, gids: []string{"gid"}, owned: true,
		}
	}
	for name, f := range known {
		f.name, f.driver, f.listed = name, name, true
		known[name] = f
	}
	return known
}
